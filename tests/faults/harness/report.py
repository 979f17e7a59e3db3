"""What `make faults` has found, as a page."""

from collections import Counter
from collections.abc import Sequence

from tests.faults.harness.cell import Result
from tests.faults.harness.faults import FAULTS
from tests.faults.harness.phases import Phase
from tests.faults.harness.storm import Storm
from tests.faults.harness.verdict import Kind

LOST = (Kind.LOST, Kind.MISSING)
DOUBLED = (Kind.DOUBLED, Kind.REORDERED)


def page(
    storm: Storm, results: Sequence[Result], command: str, troubles: Sequence[str] = ()
) -> str:
    """All of it. `troubles` are cells that could not be played to their end."""
    total = Counter(storm.kinds)
    for result in results:
        total.update(each.kind for each in result.verdicts)
    injected = storm.blows.total() + len(results)
    lines = [
        "# Faults",
        "",
        f"Written by `{command}`.",
        "",
        "Real processes, a simulated engine whose every token is known, and faults by signals, by",
        "limits and by proxies on every way between two machines.",
        "",
        _row("faults injected", "requests", "survived unbroken", "ended with a typed error",
             "lost", "doubled", "hung", "otherwise wrong", "cut off with their edge"),
        _row(*["---:"] * 9),
        _row(injected, total.total(), total[Kind.UNBROKEN], total[Kind.TYPED],
             *(sum(total[kind] for kind in kinds) for kinds in (LOST, DOUBLED)),
             *(total[kind] for kind in (Kind.HUNG, Kind.WRONG, Kind.EDGE))),
        "",
        *_storm(storm),
        *_matrix(results),
        *_bad(storm, results, troubles),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _storm(storm: Storm) -> list[str]:
    if not storm.judged:
        return []
    blows = ", ".join(f"{part} {count}" for part, count in sorted(storm.blows.items()))
    codes = ", ".join(f"`{code}` {count}" for code, count in storm.codes.most_common())
    skipped = ", ".join(sorted(storm.skipped))
    return [
        "## At random",
        "",
        f"{storm.judged} requests in {storm.streams} streams, {storm.blows.total()} faults,",
        f"{storm.seconds / 60:.0f} minutes, seed {storm.seed}.",
        f"Unbroken: {storm.kinds[Kind.UNBROKEN] / storm.judged:.1%}.",
        f"The slowest request took {storm.slowest:.0f} s.",
        "",
        f"- Faults by part: {blows or 'none'}.",
        f"- Typed errors: {codes or 'none'}.",
        *([f"- Not possible on this machine: {skipped}."] if skipped else []),
        "",
    ]


def _matrix(results: Sequence[Result]) -> list[str]:
    """Unbroken of all, for each fault and phase."""
    if not results:
        return []
    cells: dict[str, dict[Phase | None, Result]] = {}
    order = {fault.name: number for number, fault in enumerate(FAULTS)}
    for result in sorted(results, key=lambda each: order.get(each.blow.fault.name, len(order))):
        cells.setdefault(result.blow.fault.name, {})[result.phase] = result
    lines = [
        "## By phase",
        "",
        "Requests that went on unbroken, of those that were in the phase or around it when the",
        "fault came, and the seconds that the slowest took. The others ended with a typed error,",
        "or, where the edge was killed, with their connection.",
        "",
        _row("fault", *Phase),
        _row("---", *["---:"] * len(Phase)),
    ]
    for name, row in cells.items():
        lines.append(_row(name, *(_cell(row.get(phase)) for phase in Phase)))
    return [*lines, ""]


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    mark = "**" if result.bad or result.left_over else ""
    unbroken, all_of = result.count(Kind.UNBROKEN), len(result.verdicts)
    return f"{mark}{unbroken}/{all_of}{mark}, {result.slowest:.0f} s"


def _bad(storm: Storm, results: Sequence[Result], troubles: Sequence[str]) -> list[str]:
    found = [*storm.bad, *troubles]
    for result in results:
        where = f"{result.blow.fault.name}, {result.phase}"
        found += [f"{where}: {each.kind}: {each.detail}" for each in result.bad]
        if result.left_over:
            found.append(f"{where}: the queue still holds {result.left_over}")
    if not found:
        return []
    return ["## What must not be", "", *(f"- {each}" for each in found), ""]


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(each) for each in cells)} |"

"""The results for people: one page with every table and plot."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from loadtests.bench import plots, tables
from loadtests.bench.aims import aims
from loadtests.bench.results import FILES, Results, Run, read

HEAD: Final = """\
# Speed, measured side by side

Made by `make bench`; `loadtests/README.md` says how, and lists the other results in this folder.
Everything runs on one machine and speaks to itself, and machines differ: **only ratios and
differences within one run mean something.** Times are in milliseconds unless another unit is said.
The engine is a simulated one, so what is seen is the path and not a model.
"""

SIDE_BY_SIDE: Final = """\
## Side by side

The same engine process, the same generator, in turns. *Added* is the first token's median less the
engine's own. *CPU* is all that the contender's processes take for a request, without engine and
generator. Requests that the generator gave up on (`timeout`) count with the tokens that they had
got. A gap of 0 means that tokens came together.
"""

HOPS: Final = """\
## Where the time to the first token goes

As in Table 1 of the paper on Chat AI: the path, one hop longer each time, one request at a time.
*hub* is publishing, pulling and a frame back, by clients without HTTP and engine; *worker* is what
is left of its path without hub and engine; *SSH* is bridge, sshd, gate and leaf.
"""

ALONE: Final = """\
## What each part takes alone

As in Table 2 of the paper. *Per core* is what the busiest of the part's processes would do with a
processor for itself; on a machine where client, engine and part share processors, that is the
number that tells. *edge, frames* is fed with frames made beforehand, in turns over so many streams.
"""

OPEN: Final = """\
## Arrivals that do not wait for answers

The same arrivals to the engine and through Headrace; *begun late* is the generator's own lateness.
"""

WORDS: Final = {
    "queue": "Requests that wait in the queue, put there directly",
    "models": "Models that the edge offers",
    "workers": "Workers of one model, with pulls and heartbeats, behind SSH",
    "edges": "Edge processes",
    "waiting": "Connections that wait on one edge process",
}


def write(folder: Path, *, draw: bool = True) -> Results:
    """Write the page for the results in a folder, with plots unless told not to."""
    results = read(folder)
    drawn = plots.draw(results, folder) if draw else []
    (folder / "README.md").write_text(page(results, drawn), encoding="utf-8")
    return results


def page(results: Results, drawn: Sequence[str] = ()) -> str:
    """The whole page."""
    lines = [HEAD, *_about(results.run), *_earlier(results)]
    lines += ["## Aims", "", *tables.aims(aims(results))]
    lines += [*_side_by_side(results, drawn), *_parts(results), *_growth(results, drawn)]
    return "\n".join(lines).rstrip() + "\n"


def _about(run: Run | None) -> Iterator[str]:
    if run is None:
        return
    on = run.machine
    if run.size != "full":
        yield f"**This was a {run.size} run: too short for its numbers to be quoted.**"
        yield ""
    yield (
        f"Begun {run.begun} at commit {on.commit or 'unknown'}, on {on.cpus} processors "
        f"({on.processor}), Python {on.python}; load average before: {on.load_average:g}."
    )
    yield ""
    if run.size == "full" and on.load_average > 0.5:
        yield "**The machine was not idle before.**"
        yield ""
    for name, done in run.parts.items():
        if done.failure:
            yield f"**{name} failed: {done.failure}**"
            yield ""


def _earlier(results: Results) -> Iterator[str]:
    """Which parts are of another run than the last one."""
    if results.run is None:
        return
    for name in sorted(FILES.keys() - {"run"} - results.run.parts.keys()):
        part = getattr(results, name)
        if part is not None:
            commit = part.machine.commit or "unknown"
            yield from (f"**{name} is of an earlier run, at commit {commit}.**", "")


def _side_by_side(results: Results, drawn: Sequence[str]) -> Iterator[str]:
    found = results.side_by_side
    if found is None:
        return
    yield SIDE_BY_SIDE
    yield from (f"- {name}: {what}" for name, what in found.contenders.items())
    yield from (f"- **{name} is missing: {why}**" for name, why in found.missing.items())
    yield ""
    if "side-by-side.svg" in drawn:
        yield from ("![side by side](side-by-side.svg)", "")
    for level in found.levels:
        streams = "1 stream" if level.streams == 1 else f"{level.streams:,} streams"
        delay = f", {level.delay_ms:g} ms apart" if level.delay_ms else ", no delay"
        turns = "turn" if level.streams == 1 else "round"
        turns += "s" * (level.rounds > 1)
        yield f"### {streams} of {level.tokens} tokens{delay}"
        yield from ("", f"{level.rounds} {turns}.", "", *tables.level(level))
    sixteen = next((level for level in found.levels if level.streams == 16), None)
    if sixteen is not None:
        yield from ("### Processes at 16 streams", "", *tables.costs(sixteen))


def _parts(results: Results) -> Iterator[str]:
    if results.hops is not None:
        yield from (HOPS, *tables.hops(results.hops))
    if results.alone is not None:
        yield from (ALONE, *tables.alone(results.alone))
    if results.ceilings is not None:
        yield from ("## The ceilings of engine and generator", "")
        yield from tables.ceilings(results.ceilings)
    if results.open_loop is not None:
        yield from (OPEN, *tables.open_loop(results.open_loop))
        for name in results.open_loop.missing:
            yield from (f"**There was no trace {name}.**", "")
    if results.memory is not None:
        yield from ("## Memory of a request", "", *tables.memory(results.memory))
    if results.slow_reader is not None:
        found = results.slow_reader
        yield from ("## Beside a slow reader", "")
        yield f"{found.streams} streams, alone and beside one client that reads a byte a second."
        yield from ("", *tables.slow_reader(found))


def _growth(results: Results, drawn: Sequence[str]) -> Iterator[str]:
    if results.growth is None:
        return
    yield from ("## Growth", "")
    for name, points in results.growth.curves.items():
        yield from (f"### {WORDS[name]}", "", *tables.curve(name, points))
        if (file := f"growth-{name}.svg") in drawn:
            yield from (f"![growth with {name}]({file})", "")
    for name, why in results.growth.missing.items():
        yield from (f"**{name} failed: {why}**", "")

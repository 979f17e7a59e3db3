"""`headrace limits`: requests, tokens, money and concurrency, by key, user, group and model."""

from typing import Any, Final

import click

from headrace.cli.admin import context
from headrace.external import money
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy.records import MOMENTARY, Limit, LimitWindow, Metric, SubjectKind
from headrace.gateway.store import queries

KINDS: Final = ("key", "user", "group", "model")


def _what() -> list[tuple[str, Metric, LimitWindow]]:
    found = [
        (f"{metric}_per_{window}", metric, window)
        for metric in (Metric.REQUESTS, Metric.TOKENS, Metric.COST)
        for window in (LimitWindow.MINUTE, LimitWindow.HOUR, LimitWindow.DAY, LimitWindow.MONTH)
    ]
    return found + [(metric.value, metric, LimitWindow.NOW) for metric in sorted(MOMENTARY)]


WHAT: Final = _what()


def _subject(command: context.Command) -> context.Command:
    for kind, told in (
        ("model", "A model; with another of these, only requests for it count."),
        ("group", "A group: each member, or with --together all of them."),
        ("user", "A user, with all keys."),
        ("key", "A key, by its id."),
    ):
        command = click.option(f"--{kind}", help=told, metavar="ID" if kind == "key" else "NAME")(
            command
        )
    help_ = "Whether every user has it alone. [default: for groups each, for models together]"
    return click.option("--each/--together", default=None, help=help_)(command)


def _numbers(command: context.Command) -> context.Command:
    for name, _, _ in reversed(WHAT):
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, name, metavar="N|none", help="")(command)
    return command


@click.group(short_help="Bound requests, tokens and what is under way.")
def limits() -> None:
    """Limits. Windows are those of the clock, in UTC. Of limits that groups give their members the
    most generous counts, `everyone`'s only where no other group says anything.
    """


@limits.command("set")
@_subject
@_numbers
@context.command
def set_limits(office: AdminService, as_json: bool, **given: Any) -> None:
    """Set limits, such as: --key ID --requests-per-minute 3. `none` takes one away."""
    kind, name, model, each = subject(given)
    new: list[Limit] = []
    gone: list[Limit] = []
    for option, metric, window in WHAT:
        text = given[option]
        if text is None:
            continue
        number = 0 if text == "none" else _value(option, metric, text)
        limit = Limit(
            kind=kind, name=name, metric=metric, window=window, value=number, model=model, each=each
        )
        (gone if text == "none" else new).append(limit)
    if not new and not gone:
        raise click.UsageError("which limit? Say for instance --requests-per-minute 60")
    office.limits.set(new, static=office.static)
    office.limits.clear(gone)
    if as_json:
        context.show_json(new)
        return
    for limit in new:
        click.echo(f"{kind} {name}: {words(limit)}")
    for limit in gone:
        click.echo(f"{kind} {name}: no limit of {limit.metric} per {limit.window}")


@limits.command("list")
@context.command
def list_limits(office: AdminService, as_json: bool) -> None:
    """List all limits."""
    with office.database.read() as connection:
        every = queries.limits(connection)
    if as_json:
        context.show_json(every)
        return
    rows = [
        {"on": f"{limit.kind} {limit.name}", "limit": words(limit), "model": limit.model}
        for limit in every
    ]
    context.show_table(("on", "limit", "model"), rows)


def subject(given: dict[str, Any]) -> tuple[SubjectKind, str, str, bool]:
    """What the limits are set on, the model that they are narrowed to, and for each or together."""
    said = [kind for kind in ("key", "user", "group") if given[kind] is not None]
    model = given["model"] or ""
    if len(said) > 1 or not (said or model):
        raise click.UsageError("on what? Say one of --key, --user, --group, or --model")
    each = given["each"]
    if said:
        kind = SubjectKind(said[0])
        if each is False and kind is not SubjectKind.GROUP:
            raise click.UsageError("--together is for groups and models")
        return kind, given[said[0]], model, True if each is None else each
    return SubjectKind.MODEL, model, "", bool(each)


def words(limit: Limit) -> str:
    """A limit for people."""
    if limit.window is LimitWindow.NOW:
        text = f"{limit.value} {'at once' if limit.metric is Metric.CONCURRENCY else 'queued'}"
    else:
        value = money.shown(limit.value) if limit.metric is Metric.COST else limit.value
        text = f"{value} {limit.metric} per {limit.window}"
    if limit.kind in (SubjectKind.GROUP, SubjectKind.MODEL):
        text += ", each" if limit.each else ", together"
    return text


def _value(option: str, metric: Metric, text: str) -> int:
    """What a limit is set to: money is said in units of the currency and kept in millionths."""
    if metric is not Metric.COST:
        return _number(option, text)
    whole, _, part = text.partition(".")
    if len(part) > 6:
        raise click.UsageError(f"--{option.replace('_', '-')}: at most six digits after the point")
    return _number(option, whole) * money.MICRO + _number(option, part.ljust(6, "0"))


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        told = f"--{option.replace('_', '-')}: a whole number, or none: {text[:40]!r}"
        raise click.UsageError(told)
    return int(text)

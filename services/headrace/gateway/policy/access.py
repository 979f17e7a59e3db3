"""Who may ask which model for what. Pure functions of plain values."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from headrace.gateway.policy.records import ALL, EVERYONE, Group, Key, Limit, User
from headrace.protocol.endpoints import Endpoint


class AccessTarget(msgspec.Struct, frozen=True):
    """What counts of a model here."""

    name: str
    slug: str
    external: bool = False
    """Whether prompts for it leave the site: then `ALL` does not mean it."""
    limits: tuple[Limit, ...] = ()
    """Those of its own file, which count besides those of the store."""


class Rights(msgspec.Struct, frozen=True):
    """What one key may do, its groups and its own restrictions taken together."""

    groups: tuple[Group, ...] = ()
    """Those that count, `EVERYONE` last."""
    models: tuple[str, ...] = ()
    """What the key is narrowed to; empty is not at all."""
    endpoints: tuple[Endpoint, ...] = ()
    unbound: bool = False
    """A key of the site itself: no group limits it."""


UNBOUND: Final = Rights(unbound=True)


def rights(key: Key, owner: User, groups: Mapping[str, Group]) -> Rights:
    """What `key` of `owner` may do."""
    of_owner = set(owner.groups)
    wanted = key.groups or owner.groups
    found = [groups[name] for name in sorted(wanted) if name in of_owner and name in groups]
    if EVERYONE in groups:
        found = [group for group in found if group.name != EVERYONE] + [groups[EVERYONE]]
    return Rights(tuple(found), key.models, key.endpoints)


def granting(rights: Rights, model: AccessTarget, endpoint: Endpoint | None = None) -> Group | None:
    """The group by which `model` may be asked; None where no group allows it.

    One that names the model goes before one that has `ALL`.
    """
    able = [
        group
        for group in rights.groups
        if endpoint is None or not group.endpoints or endpoint in group.endpoints
    ]
    for group in able:
        if _names(group.models, model):
            return group
    return next((group for group in able if covers(group.models, model)), None)


def may(rights: Rights, model: AccessTarget, endpoint: Endpoint | None = None) -> bool:
    """Whether `model` may be asked for `endpoint`, or, without one, for anything."""
    if rights.models and not covers(rights.models, model):
        return False
    if endpoint is not None and rights.endpoints and endpoint not in rights.endpoints:
        return False
    return rights.unbound or granting(rights, model, endpoint) is not None


def accounted(rights: Rights, model: AccessTarget, endpoint: Endpoint) -> str:
    """The group that a request is accounted to: the one that allows it; of those that do, one
    which somebody was put in before the one that all are in. Empty for the site's own keys.
    """
    if rights.unbound:
        return ""
    group = granting(rights, model, endpoint)
    if group is None or group.name != EVERYONE:
        return group.name if group is not None else ""
    return rights.groups[0].name


def covers(patterns: Iterable[str], model: AccessTarget) -> bool:
    """Whether a list of models has this one."""
    return any(
        pattern in (model.name, model.slug) or (pattern == ALL and not model.external)
        for pattern in patterns
    )


def _names(patterns: Iterable[str], model: AccessTarget) -> bool:
    return any(pattern in (model.name, model.slug) for pattern in patterns)

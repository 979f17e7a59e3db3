"""What an identity provider says of somebody, made a name, an organisation and groups. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from headrace.gateway.policy import names


class ClaimOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[sign_in.claims]``: which claims say what. A dot goes one level down."""

    user: str = "email"
    """The name by which somebody is known here. ``email`` counts only where it is verified."""
    organisation: str = ""
    groups: str = "groups"
    require: dict[str, str] = {}
    """Only who has these values may come in, such as ``{ "eduperson_assurance" = "high" }``."""


class Identity(NamedTuple):
    """Who somebody is."""

    user: str
    organisation: str
    groups: tuple[str, ...]


class NotAdmittedError(Exception):
    """Who signed in may not come in; the text is for that person."""


def identity(
    claims: Mapping[str, Any], options: ClaimOptions, groups: Mapping[str, str]
) -> Identity:
    """Who the claims speak of. `groups` maps the provider's words to groups here; others are
    nobody's. Raises NotAdmittedError.
    """
    for claim, wanted in options.require.items():
        if wanted not in _words(_find(claims, claim)):
            raise NotAdmittedError("Your account does not have what this service asks for.")
    user = _find(claims, options.user)
    if not isinstance(user, str) or not user:
        raise NotAdmittedError(f"Your account has no {options.user}.")
    if options.user == "email" and claims.get("email_verified") is not True:
        # Else whoever registers somebody's address with the provider would be that person here.
        raise NotAdmittedError("Your e-mail address is not verified.")
    said = _find(claims, options.organisation) if options.organisation else ""
    words = _words(_find(claims, options.groups)) if options.groups else []
    try:
        return Identity(
            names.user(user),
            names.label(said if isinstance(said, str) else ""),
            tuple(sorted({groups[word] for word in words if word in groups})),
        )
    except ValueError:
        raise NotAdmittedError("Your account's name or organisation cannot be used here.") from None


def _find(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:  # some providers' claims are URLs, with dots
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []

"""``[sign_in]`` and ``[proxy]``: how people come to the key page."""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from headrace.gateway.policy.oidc_claims import ClaimOptions

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class SignInOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Sign-in with an OpenID Connect provider. An empty issuer is none."""

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    """Empty for a public client, which PKCE alone protects."""
    public_url: str = ""
    """Where browsers reach this service, such as ``https://llm.example.org``. The provider must
    know ``PUBLIC_URL/account/callback``."""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    claims: ClaimOptions = ClaimOptions()
    groups: dict[str, str] = {}
    """The provider's groups, and which they are here. Others count for nothing."""
    session_hours: Annotated[float, Meta(gt=0, le=24 * 30)] = 8.0
    key_days: Annotated[int, Meta(ge=1, le=3650)] = 90
    """How long a key at most lives that somebody makes on the page."""
    max_keys: Annotated[int, Meta(ge=1, le=1000)] = 10
    """How many live keys one may have."""

    def __post_init__(self) -> None:
        if not self.issuer:
            return
        for name in ("issuer", "public_url"):
            parts = urlsplit(getattr(self, name))
            if parts.scheme not in {"https", "http"} or not parts.hostname:
                raise ValueError(f"{name}: not an http or https URL")
            if parts.scheme == "http" and parts.hostname not in LOOPBACK:
                raise ValueError(f"{name}: must be https")
        if not self.client_id:
            raise ValueError("client_id: missing")
        if "openid" not in self.scopes:
            raise ValueError("scopes: must have openid")

    @property
    def secure(self) -> bool:
        """Whether browsers come by https, so that cookies go no other way."""
        return self.public_url.startswith("https://")

    @property
    def base(self) -> str:
        """`public_url` without a slash at its end."""
        return self.public_url.rstrip("/")


class ProxyOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A proxy in front that has found out who somebody is, such as Apache with mod_auth_openidc.

    It is believed by its address and a secret that it sends along: either alone is not enough.
    """

    addresses: tuple[str, ...] = ()
    """Addresses or networks, such as ``10.0.0.5`` or ``10.1.0.0/24``. Empty: no proxy."""
    secret_file: str = ""
    secret_header: str = "x-headrace-proxy-secret"  # noqa: S105  # its name
    user_header: str = "x-remote-user"
    organisation_header: str = "x-remote-organisation"
    groups_header: str = "x-remote-groups"
    """Names with commas between; `groups` says which they are here."""
    groups: dict[str, str] = {}

    def __post_init__(self) -> None:
        for address in self.addresses:
            ipaddress.ip_network(address)
        if self.addresses and not self.secret_file:
            raise ValueError("secret_file: missing; an address alone is not believed")

"""Who a trusted proxy says that somebody is: believed by its address and a shared secret. Pure."""

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from headrace.edge.auth_options import ProxyOptions
from headrace.gateway.policy import names
from headrace.gateway.policy.oidc_claims import Identity, NotAdmittedError

MAX_GROUPS: Final = 200


class TrustedProxy:
    """The proxy in front, if there is one."""

    def __init__(self, options: ProxyOptions, secret: str) -> None:
        self._options = options
        self._secret = secret.encode()
        self._networks = [ipaddress.ip_network(address) for address in options.addresses]

    def identity(self, scope: Scope) -> Identity | None:
        """Who the proxy names; None where nobody may be believed. Raises NotAdmittedError."""
        if not self._networks or not self._trusted(scope):
            return None
        headers = self._headers(scope)
        options = self._options
        given = headers.get(options.secret_header, [])
        if len(given) != 1 or not hmac.compare_digest(given[0], self._secret):
            return None
        user = self._one(headers, options.user_header)
        if not user:
            return None
        words = self._one(headers, options.groups_header).split(",")[:MAX_GROUPS]
        groups = {options.groups[word.strip()] for word in words if word.strip() in options.groups}
        try:
            return Identity(
                names.user(user),
                names.label(self._one(headers, options.organisation_header)),
                tuple(sorted(groups)),
            )
        except ValueError:
            raise NotAdmittedError("The proxy's name for you cannot be used here.") from None

    def _trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        if client is None:
            return False
        address = ipaddress.ip_address(client[0])
        return any(address in network for network in self._networks)

    @staticmethod
    def _headers(scope: Scope) -> Mapping[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.decode("latin-1"), []).append(value)
        return found

    @staticmethod
    def _one(headers: Mapping[str, list[bytes]], name: str) -> str:
        """A header's value, empty where it is not there exactly once: which would be true?"""
        values = headers.get(name, [])
        return values[0].decode("latin-1").strip() if len(values) == 1 else ""

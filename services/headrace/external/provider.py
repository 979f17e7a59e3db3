"""``[engine]`` of an external model: whose API it is, where, and how to show the key."""

from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from headrace.protocol.endpoints import Endpoint
from headrace.runtime.engine import Seconds

Word = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199}\Z")]
Segment = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
"""Becomes one segment of a path, or a value of a query: nothing in it needs escaping."""
Path = Annotated[str, Meta(pattern=r"\A(/[A-Za-z0-9._-]+)*\Z")]

ANTHROPIC_VERSION: Final = "2023-06-01"


class ProviderKind(StrEnum):
    """Whose API it is. All speak OpenAI's; they differ in addresses and in how a key is shown."""

    OPENAI = "openai"
    """``POST BASE/chat/completions``, ``Authorization: Bearer``: OpenAI, and who copies its API."""
    AZURE = "azure"
    """``POST BASE/openai/deployments/DEPLOYMENT/chat/completions?api-version=``, ``api-key``."""
    ANTHROPIC = "anthropic"
    """Anthropic's OpenAI-compatible address; only chat."""


KINDS: Final = frozenset(ProviderKind)

_BASES: Final = {
    ProviderKind.OPENAI: "https://api.openai.com/v1",
    ProviderKind.ANTHROPIC: "https://api.anthropic.com/v1",
}
_PATHS: Final = {Endpoint.CHAT: "/chat/completions", Endpoint.EMBEDDINGS: "/embeddings"}

Header = tuple[str, str]


class ServerAddress(NamedTuple):
    """A server: TLS or not, its name and its port."""

    tls: bool
    host: str
    port: int


class ProviderOptions(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One model at a provider."""

    kind: ProviderKind
    key_file: str
    """Holds the API key and nothing else, and nobody but its owner may read it. A path; it may
    begin with ``$CREDENTIALS_DIRECTORY``."""
    base_url: str = ""
    """``https://HOST[/PATH]``; OpenAI's and Anthropic's own by default."""
    model: Word = ""
    """As the provider calls it. Azure has deployments instead."""
    deployment: Segment | None = None
    api_version: Segment | None = None
    allow_http: bool = False
    """Whether `base_url` may be plain HTTP to another machine. The loopback always may."""
    ca_file: str = ""
    """Certificates to trust in place of the system's, for a provider with a CA of its own."""
    connect_seconds: Seconds = 5.0
    """For name, connection and TLS together."""
    first_byte_seconds: Seconds = 120.0
    """From the request to the first byte: models that reason are silent before it."""
    idle_seconds: Seconds = 60.0
    """Between two reads of an answer that has begun."""
    probe_seconds: Seconds = 30.0
    """How often the provider is asked whether it is there, which costs no tokens."""
    health_path: Path = ""
    """What is asked then, below `base_url`; the list of models by default."""

    def __post_init__(self) -> None:
        azure = self.kind is ProviderKind.AZURE
        for name in ("deployment", "api_version"):
            if azure != (getattr(self, name) is not None):
                raise ValueError(
                    f"{name}: {'missing; azure needs it' if azure else 'is for azure'}"
                )
        if azure == bool(self.model):
            raise ValueError("model: " + ("azure has a deployment instead" if azure else "missing"))
        if not self.key_file or "\n" in self.key_file or self.key_file.startswith("sk-"):
            raise ValueError("key_file: the path of a file; a key itself has no place here")
        _ = self.address

    @property
    def address(self) -> ServerAddress:
        """Where to connect. Raises ValueError."""
        url = self.base_url or _BASES.get(self.kind, "")
        if not url:
            raise ValueError(f"base_url: missing; {self.kind} has no address of its own")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f"base_url: {error}") from None
        if parts.scheme not in ("https", "http") or not host.isascii() or not host:
            raise ValueError("base_url: must be like https://api.example.com/v1")
        if parts.username is not None or parts.query or parts.fragment or not url.isprintable():
            raise ValueError("base_url: no name, password, query or fragment belongs here")
        if parts.scheme == "http" and not (self.allow_http or _is_loopback(host)):
            raise ValueError("base_url: must be https; `allow_http = true` lets plain HTTP be")
        tls = parts.scheme == "https"
        return ServerAddress(tls, host, port or (443 if tls else 80))

    @property
    def _prefix(self) -> str:
        return urlsplit(self.base_url or _BASES.get(self.kind, "")).path.rstrip("/")

    def path(self, endpoint: Endpoint) -> str:
        """The target of a request. Raises KeyError for what providers are not asked."""
        path = _PATHS[endpoint]
        if self.kind is ProviderKind.AZURE:
            path = f"/openai/deployments/{self.deployment}{path}?api-version={self.api_version}"
        return self._prefix + path

    @property
    def probe(self) -> str:
        """The target of what tells whether the provider is there."""
        if self.kind is ProviderKind.AZURE:
            path = self.health_path or "/openai/models"
            return f"{self._prefix}{path}?api-version={self.api_version}"
        return self._prefix + (self.health_path or "/models")

    def credentials(self, key: str, *, probing: bool = False) -> tuple[Header, ...]:
        """The headers that show `key`."""
        if self.kind is ProviderKind.AZURE:
            return (("api-key", key),)
        if self.kind is ProviderKind.ANTHROPIC and probing:
            # The list of models is of its own API; the compatible one takes OpenAI's header.
            return (("x-api-key", key), ("anthropic-version", ANTHROPIC_VERSION))
        return (("authorization", f"Bearer {key}"),)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

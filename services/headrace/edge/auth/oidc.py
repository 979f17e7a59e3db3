"""An OpenID Connect provider: discovery, the way to it and back, its signature on who came.

Code flow with PKCE (RFC 7636), state and nonce; OpenID Connect Core 1.0, 3.1; RP-Initiated Logout.
"""

import hmac
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from headrace.edge.auth_options import SignInOptions

SECONDS: Final = 10.0
FRESH_SECONDS: Final = 3600.0
KEYS_SECONDS: Final = 60.0
"""At most so often the provider's keys are fetched because one is not known."""
LEEWAY_SECONDS: Final = 60
ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
"""Asymmetric ones alone: a shared secret, or ``none``, would let others sign."""


class SignInError(Exception):
    """Sign-in has failed; the text is for the person in front."""


class _Metadata(msgspec.Struct, frozen=True):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""


class PendingSignIn(msgspec.Struct, frozen=True):
    """A sign-in that has begun; the browser keeps it, sealed, until it comes back."""

    state: str
    nonce: str
    verifier: str
    expires: float


class SignedInUser(msgspec.Struct, frozen=True):
    """What the provider says of who signed in."""

    claims: dict[str, Any]
    id_token: str


class OidcProvider:
    """One provider, with what it has told of itself."""

    def __init__(self, options: SignInOptions, client_secret: str) -> None:
        self._options = options
        self._secret = client_secret
        self._metadata: _Metadata | None = None
        self._metadata_at = 0.0
        self._keys: KeySet | None = None
        self._keys_at = 0.0
        self._callback = f"{options.base}/account/callback"

    async def begin(self, now: float) -> tuple[str, PendingSignIn]:
        """Where to send the browser, and what to remember. Raises SignInError."""
        metadata = await self._discover()
        pending = PendingSignIn(
            generate_token(43), generate_token(43), generate_token(64), now + 600
        )
        asked = {
            "response_type": "code",
            "client_id": self._options.client_id,
            "redirect_uri": self._callback,
            "scope": " ".join(self._options.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}", pending

    async def complete(
        self, query: Mapping[str, str], pending: PendingSignIn, now: float
    ) -> SignedInUser:
        """Who came back with `query`. Raises SignInError."""
        if now > pending.expires:
            raise SignInError("This took too long. Please sign in again.")
        if not hmac.compare_digest(query.get("state", "").encode(), pending.state.encode()):
            raise SignInError("This is not the sign-in that was begun here. Please try again.")
        if "code" not in query:
            raise SignInError("The identity provider did not sign you in.")
        metadata = await self._discover()
        if query.get("iss", metadata.issuer) != metadata.issuer:  # RFC 9207
            raise SignInError("This answer is from another identity provider.")
        try:
            async with self._client() as client:
                token = await client.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=query["code"],
                    redirect_uri=self._callback,
                    code_verifier=pending.verifier,
                )
                id_token = str(token.get("id_token", ""))
                claims = await self._verified(id_token, pending.nonce)
                if metadata.userinfo_endpoint:
                    claims = await self._more(client, metadata.userinfo_endpoint, claims)
        except (httpx2.HTTPError, AuthlibBaseError, ValueError) as error:
            raise SignInError("The identity provider does not answer as it should.") from error
        return SignedInUser(claims, id_token)

    async def end(self, id_token: str) -> str:
        """Where to send the browser to sign out there, too."""
        try:
            metadata = await self._discover()
        except SignInError:
            return f"{self._options.base}/account"
        if not metadata.end_session_endpoint:
            return f"{self._options.base}/account"
        asked = {
            "client_id": self._options.client_id,
            "post_logout_redirect_uri": f"{self._options.base}/account",
        }
        if id_token:
            asked["id_token_hint"] = id_token
        joint = "&" if "?" in metadata.end_session_endpoint else "?"
        return f"{metadata.end_session_endpoint}{joint}{urlencode(asked)}"

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._options.client_id,
            self._secret or None,
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            timeout=SECONDS,
        )

    async def _discover(self) -> _Metadata:
        now = time.monotonic()
        if self._metadata is not None and now - self._metadata_at < FRESH_SECONDS:
            return self._metadata
        issuer = self._options.issuer.rstrip("/")
        body = await self._get(f"{issuer}/.well-known/openid-configuration")
        try:
            metadata = msgspec.json.decode(body, type=_Metadata)
        except msgspec.DecodeError as error:
            raise SignInError("The identity provider does not answer as it should.") from error
        if metadata.issuer.rstrip("/") != issuer:
            raise SignInError("The identity provider calls itself by another name.")
        self._metadata, self._metadata_at = metadata, now
        return metadata

    async def _verified(self, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token. Raises ValueError."""
        metadata = await self._discover()
        token = None
        for last in (False, True):
            try:
                token = jwt.decode(id_token, await self._known(metadata.jwks_uri), ALGORITHMS)
                break
            except (JoseError, ValueError):
                # Perhaps it is signed with a key that is new.
                if last or time.monotonic() - self._keys_at < KEYS_SECONDS:
                    raise ValueError("the token's signature is not right") from None
                self._keys = None
        if token is None:
            raise ValueError("no token")
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": metadata.issuer},
            aud={"essential": True, "value": self._options.client_id},
            exp={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(token.claims)
        except JoseError as error:
            raise ValueError("the token is not for this sign-in") from error
        if token.claims.get("azp", self._options.client_id) != self._options.client_id:
            raise ValueError("the token is for another client")
        return dict(token.claims)

    async def _known(self, uri: str) -> KeySet:
        if self._keys is None:
            body = await self._get(uri)
            self._keys = KeySet.import_key_set(msgspec.json.decode(body))
            self._keys_at = time.monotonic()
        return self._keys

    async def _more(
        self, client: AsyncOAuth2Client, endpoint: str, claims: dict[str, Any]
    ) -> dict[str, Any]:
        """The claims with what the provider tells besides. Those that are signed stand."""
        answer = await client.get(endpoint)
        if answer.status_code != 200:
            return claims
        told = msgspec.json.decode(answer.content)
        if not isinstance(told, dict) or told.get("sub") != claims["sub"]:
            raise ValueError("the provider speaks of somebody else")
        return told | claims

    async def _get(self, url: str) -> bytes:
        try:
            async with httpx2.AsyncClient(timeout=SECONDS) as client:
                answer = await client.get(url)
                answer.raise_for_status()
                return bytes(answer.content)
        except httpx2.HTTPError as error:
            raise SignInError("The identity provider cannot be reached right now.") from error

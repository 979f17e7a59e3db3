"""What a person is called where the name must not be: in requests, logs and accounts."""

from headrace.gateway.policy import api_keys

LENGTH = 16


def of_user(secret: bytes, name: str) -> str:
    """A user's pseudonym: 16 hex digits, the same for all of the user's keys."""
    return api_keys.digest(secret, f"user:{name}")[:LENGTH]


def of_key(secret: bytes, id: str) -> str:
    """The pseudonym of a key that has no owner."""
    return api_keys.digest(secret, f"tenant:{id}")[:LENGTH]

"""What a person is called where the name must not be: in requests, logs and accounts."""

from headrace.runtime import apikeys

LENGTH = 16


def of_user(secret: bytes, name: str) -> str:
    """A user's pseudonym: 16 hex digits, the same for all of the user's keys."""
    return apikeys.digest(secret, f"user:{name}")[:LENGTH]


def of_key(secret: bytes, id: str) -> str:
    """The pseudonym of a key that has no owner."""
    return apikeys.digest(secret, f"tenant:{id}")[:LENGTH]

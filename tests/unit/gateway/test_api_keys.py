"""API keys: their form, their digest, and the server's secret."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.policy import api_keys
from headrace.runtime.config import ConfigError

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_minted_key_is_well_formed_and_new_each_time() -> None:
    keys = {api_keys.mint() for _ in range(200)}
    assert len(keys) == 200
    assert all(api_keys.well_formed(key) for key in keys)
    assert all(key.startswith("hr_") and len(key) == 52 for key in keys)


@given(st.integers(3, 51), st.sampled_from(LETTERS))
def test_one_mistyped_letter_is_noticed(place: int, letter: str) -> None:
    key = api_keys.mint()
    mistyped = key[:place] + letter + key[place + 1 :]
    assert api_keys.well_formed(mistyped) == (mistyped == key)


@given(st.text())
def test_other_text_is_not_well_formed(text: str) -> None:
    assert not api_keys.well_formed(text)


@pytest.mark.parametrize("around", ["\n", " ", "\0"])
def test_a_key_with_something_around_it_is_not_well_formed(around: str) -> None:
    key = api_keys.mint()
    assert not api_keys.well_formed(key + around)
    assert not api_keys.well_formed(around + key)


def test_the_digest_is_hmac_sha_256() -> None:
    expected = hmac.new(b"secret", b"hr_key", hashlib.sha256).hexdigest()
    assert api_keys.digest(b"secret", "hr_key") == expected
    assert api_keys.digest(b"other", "hr_key") != expected


def test_the_secret_is_for_its_owner_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "api.secret"
    secret = api_keys.create_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert api_keys.load_secret(path) == secret
    with pytest.raises(FileExistsError):
        api_keys.create_secret(path)


@pytest.mark.parametrize("text", ["", "not hex", "abcd", "ab" * 31])
def test_what_is_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api.secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        api_keys.load_secret(path)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api.secret"
    api_keys.create_secret(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        api_keys.load_secret(path)

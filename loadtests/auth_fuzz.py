"""The door, tried with a million ``Authorization`` headers: none opens it, none breaks it.

``python -m loadtests.auth_fuzz`` mutates real keys, and makes noise. Each header goes to the very
code that the edge calls first, in this process; one of every so many goes over HTTP to a real edge.
The only headers that may be let in are those that spell a live key exactly; those are told apart
by the generator, not by the code under test.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from headrace.edge.auth.api_keys import KeyRing
from headrace.gateway.policy import api_keys
from headrace.gateway.policy.records import EVERYONE, Group, Key, User
from headrace.gateway.policy.snapshot import Snapshot
from headrace.gateway.store.queries import Records
from headrace.protocol.errors import Code, HeadraceError

RESULT: Final = Path(__file__).parent / "results" / "auth-fuzz.json"
SECRET: Final = bytes(range(32))
OWNERS: Final = 50
SCHEMES: Final = (
    b"Bearer ",
    b"bearer ",
    b"BEARER ",
    b"Bearer  ",
    b"Bearer\t",
    b"Basic ",
    b"",
    b"Bearer",
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    seed: int
    inputs: int
    let_in: int
    """Headers with a live key in a form that is allowed: these must be."""
    refused: int
    wrongly_let_in: int
    wrongly_refused: int
    crashed: int
    over_http: dict[str, int]
    """Answers of the real edge, by status."""
    server_errors: int
    seconds: float
    python: str


class Door:
    """A key ring with keys that live, and ones that do not."""

    def __init__(self, keys: Sequence[str], dead: Sequence[str]) -> None:
        records = Records(
            1,
            (User(name="ada"),),
            (Group(name=EVERYONE, models=("*",)),),
            tuple(_record(f"k{n}", key) for n, key in enumerate(keys))
            + tuple(_record(f"d{n}", key, revoked=1.0) for n, key in enumerate(dead)),
        )
        self.live = frozenset(keys)
        self.ring = KeyRing(SECRET, ())
        self.ring.replace(Snapshot(records, SECRET))

    def opens(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether it does. Raises whatever is no refusal."""
        try:
            self.ring.authenticate(headers)
        except HeadraceError as error:
            if error.code is not Code.INVALID_API_KEY:
                raise
            return False
        return True


def _record(id: str, key: str, revoked: float | None = None) -> Key:
    return Key(id=id, digest=api_keys.digest(SECRET, key), owner="ada", revoked=revoked)


def mutated(key: bytes, dice: random.Random) -> bytes:
    """A key with something done to it, or not."""
    data = bytearray(key)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 5))):
        place = dice.randrange(len(data)) if data else 0
        match dice.randrange(7):
            case 0 if data:
                data[place] = dice.randrange(256)
            case 1 if data:
                data[place] ^= 1 << dice.randrange(8)
            case 2:
                data.insert(place, dice.randrange(256))
            case 3 if data:
                del data[place]
            case 4:
                data[place:place] = bytes(
                    dice.choice((b" ", b"\t", b"\x00", b"%00", b",", b"\xff"))
                )
            case 5 if len(data) > 1:
                other = dice.randrange(len(data))
                data[place], data[other] = data[other], data[place]
            case _:
                data = data[:place] + data[place:].swapcase()
    return bytes(data)


def header(keys: Sequence[bytes], dice: random.Random) -> bytes:
    """One header's value."""
    kind = dice.randrange(10)
    if kind == 0:
        return dice.randbytes(dice.randrange(0, 700))
    if kind == 1:
        # Well formed, of nobody: it gets as far as the dictionary.
        return b"Bearer " + api_keys.mint().encode()
    prefix = dice.choice(keys)[: dice.randrange(52)] if kind == 2 else b""
    if prefix:
        body = prefix + dice.choice(keys)[len(prefix) :]
        return b"Bearer " + body
    value = dice.choice(SCHEMES) + mutated(dice.choice(keys), dice)
    return value * 2 if dice.randrange(200) == 0 else value


def expected(door: Door, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether they must open the door: by the words of RFC 6750, not by the edge's code."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or len(given[0]) > 512 or given[0][:7].lower() != b"bearer ":
        return False
    try:
        return given[0][7:].strip().decode("ascii") in door.live
    except UnicodeDecodeError:
        return False


def run(count: int, seed: int) -> tuple[Counter[str], list[bytes]]:
    """Try `count` headers in this process; the outcomes, and some of them for HTTP."""
    dice = random.Random(seed)
    live = [api_keys.mint() for _ in range(OWNERS)]
    dead = [api_keys.mint() for _ in range(OWNERS)]
    door = Door(live, dead)
    keys = [key.encode() for key in live + dead]
    found: Counter[str] = Counter()
    kept = []
    for number in range(count):
        value = header(keys, dice)
        headers = [(b"authorization", value)]
        if dice.randrange(500) == 0:
            headers.append((b"authorization", b"Bearer " + keys[0]))
        if number % max(1, count // 20_000) == 0:
            kept.append(value)
        must = expected(door, headers)
        try:
            is_open = door.opens(headers)
        except Exception as error:  # noqa: BLE001  # that it never happens is what is tried
            found["crashed"] += 1
            print(f"crashed on {value!r}: {error!r}", file=sys.stderr)
            continue
        found["let in" if is_open else "refused"] += 1
        if is_open != must:
            found["wrongly let in" if is_open else "wrongly refused"] += 1
            print(f"wrong on {value!r}", file=sys.stderr)
    return found, kept


async def over_http(port: int, values: Sequence[bytes]) -> Counter[str]:
    """Send raw headers to an edge; the statuses of its answers."""
    found: Counter[str] = Counter()
    for start in range(0, len(values), 32):
        tries = [_one(port, value) for value in values[start : start + 32]]
        found.update(await asyncio.gather(*tries))
    return found


async def _one(port: int, value: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: "
    writer.write(head + value + b"\r\n\r\n")
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(20):
            line = await reader.readline()
            writer.close()
            return line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "none"
    writer.close()
    return "none"


@contextlib.contextmanager
def edge() -> Iterator[tuple[int, Path]]:
    """A real edge, without a hub: it refuses before it would need one. Its port and its log."""
    from loadtests.alone import edge_alone

    with edge_alone() as (port, log):
        yield port, log


def main(argv: Sequence[str] | None = None) -> None:
    """Try, print, and keep the result; exits with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="auth_fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(argv)
    began = time.monotonic()
    found, kept = run(given.inputs, given.seed)
    with edge() as (port, log):
        statuses = asyncio.run(over_http(port, kept))
        tracebacks = log.read_text(errors="replace").count("crashed") + log.read_text(
            errors="replace"
        ).count("Traceback")
    result = Result(
        seed=given.seed,
        inputs=given.inputs,
        let_in=found["let in"],
        refused=found["refused"],
        wrongly_let_in=found["wrongly let in"],
        wrongly_refused=found["wrongly refused"],
        crashed=found["crashed"] + tracebacks,
        over_http=dict(sorted(statuses.items())),
        server_errors=sum(count for status, count in statuses.items() if status >= "5"),
        seconds=round(time.monotonic() - began, 1),
        python=platform.python_version(),
    )
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    wrong = result.wrongly_let_in + result.wrongly_refused + result.crashed + result.server_errors
    sys.exit(1 if wrong or not result.let_in else 0)


if __name__ == "__main__":
    os.nice(10)
    main()

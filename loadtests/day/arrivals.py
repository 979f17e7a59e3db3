"""Requests of several days: when they come and how long each takes, the same for the same seed.

Nothing is published on how a university's requests fall within a day, so three things are put
together. Within the hour, shapes are fitted to the Azure LLM inference trace of 2023 (Patel et al.,
"Splitwise", ISCA 2024; one hour of a chat and one of a code service). The figures fitted are the
index of dispersion (variance over mean) of counts over 1 to 300 seconds, and mean and deviation of
the logarithm of tokens:

- ``busy`` is the chat service, at half its rate. Its rate is 5.53/s times the exponential of an
  Ornstein-Uhlenbeck process (deviation 0.23, correlation time 150 s). Dispersion over 10, 60 and
  300 s: 3.9, 16 and 56 in the trace, 3.9, 16 and 50 by this model.
- ``bursty`` is the code service: bursts of 12 requests a second come at random (2.57/s on average)
  and last 7 s on average, exponentially. Dispersion over 1, 10, 60 and 300 s: 13, 72, 164 and 138
  in the trace, 13, 81, 151 and 166 by this model.
- ``rare`` is assumed: sessions of four requests on average, a minute or two apart, at most three
  sessions an hour, with the chat service's tokens.

Over the day follow the hours of an office, which is what the daily figures of an academic chat
service show (Doosthosseini et al., "Chat AI", 2024, figures 4 and 5): the weekend has about a
quarter of the requests.
"""

import csv
import math
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
WORKDAY: Final = (
    *(0.06, 0.04, 0.03, 0.03, 0.03, 0.05, 0.10, 0.30, 0.65, 0.90, 1.00, 1.00),
    *(0.85, 0.92, 1.00, 0.96, 0.85, 0.62, 0.42, 0.33, 0.30, 0.25, 0.17, 0.10),
)
WEEKEND: Final = tuple(0.5 * (0.25 * hour + 0.14) for hour in WORKDAY)
"""Rates of the hours as a share of the busiest hour's; weekends are lower and flatter."""

FIRST_DAY: Final = 3
"""Runs begin at Unix time 0, which was a Thursday: to learn, a workday, then a weekend."""


class Tokens(NamedTuple):
    """Log-normal token counts, cut off at the model's limits."""

    log_in: float
    sd_in: float
    most_in: int
    log_out: float
    sd_out: float
    most_out: int


CHAT: Final = Tokens(6.63, 0.99, 4200, 5.02, 0.86, 1000)
CODE: Final = Tokens(7.00, 1.36, 7500, 2.79, 0.85, 1900)


class Load(NamedTuple):
    """Requests in order of arrival: moments in seconds, and seconds each takes in its slot."""

    times: list[float]
    service: list[float]


def seconds(tokens_in: float, tokens_out: float) -> float:
    """Time in a slot: 4,000 tokens a second are read, 33 written (a 70B model on two A100s)."""
    return 0.1 + tokens_in / 4000 + tokens_out * 0.03


def share(moment: float) -> float:
    """The rate at `moment` over that of the busiest hour, linear between the hours' middles."""
    place = moment / HOUR - 0.5
    first = math.floor(place)
    left, right = (_hour(first), _hour(first + 1))
    return left + (right - left) * (place - first)


def _hour(index: int) -> float:
    day, hour = divmod(max(index, 0), 24)
    return (WEEKEND if (FIRST_DAY + day) % 7 >= 5 else WORKDAY)[hour]


def generate(kind: str, days: float, seed: int) -> Load:
    """The load of a ``busy``, ``bursty`` or ``rare`` model."""
    source = random.Random(f"{kind}-{seed}")
    moments = {"busy": _busy, "bursty": _bursty, "rare": _rare}[kind](days * DAY, source)
    times = sorted(moment for moment in moments if moment < days * DAY)
    tokens = CODE if kind == "bursty" else CHAT
    return Load(times, [_service(tokens, source) for _ in times])


def replay(trace: Path, days: float, scale: float, seed: int) -> Load:
    """The load of a trace of one hour: each hour replays it, thinned to `scale` and the hour."""
    source = random.Random(seed)
    with trace.open() as file:
        rows = [
            (
                datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00").timestamp(),
                seconds(int(row["ContextTokens"]), int(row["GeneratedTokens"])),
            )
            for row in csv.DictReader(file)
        ]
    begin, span = rows[0][0], rows[-1][0] - rows[0][0] + 1.0
    kept = [
        (lap * span + at - begin, service)
        for lap in range(math.ceil(days * DAY / span))
        for at, service in rows
        if source.random() < scale * share(lap * span + at - begin)
    ]
    kept = [(moment, service) for moment, service in kept if moment < days * DAY]
    return Load([moment for moment, _ in kept], [service for _, service in kept])


def _busy(end: float, source: random.Random) -> Iterator[float]:
    step, deviation, memory = 5.0, 0.23, 150.0
    keep = math.exp(-step / memory)
    state = source.gauss(0, deviation)
    at = 0.0
    while at < end:
        rate = 5.53 / 2 * share(at) * math.exp(state - deviation**2 / 2)
        moment = at + source.expovariate(rate)
        while moment < at + step:
            yield moment
            moment += source.expovariate(rate)
        state = state * keep + source.gauss(0, deviation * math.sqrt(1 - keep**2))
        at += step


def _bursty(end: float, source: random.Random) -> Iterator[float]:
    for burst in _thinned(2.57 / (12 * 7), end, source):
        until = burst + source.expovariate(1 / 7)
        moment = burst
        while moment < until:
            yield moment
            moment += source.expovariate(12)


def _rare(end: float, source: random.Random) -> Iterator[float]:
    for session in _thinned(3 / HOUR, end, source):
        moment = session
        yield moment
        while source.random() < 3 / 4:
            moment += math.exp(source.gauss(math.log(70), 0.9))
            yield moment


def _thinned(most: float, end: float, source: random.Random) -> Iterator[float]:
    at = source.expovariate(most)
    while at < end:
        if source.random() < share(at):
            yield at
        at += source.expovariate(most)


def _service(tokens: Tokens, source: random.Random) -> float:
    read = min(math.exp(source.gauss(tokens.log_in, tokens.sd_in)), tokens.most_in)
    written = min(math.exp(source.gauss(tokens.log_out, tokens.sd_out)), tokens.most_out)
    return seconds(read, written)

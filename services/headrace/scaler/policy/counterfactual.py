"""What would have waited with 1, 2, 3, ... workers: late arrivals, replayed in a fluid model.

Formulae for queues know bursts by one figure. Here each number of workers has a queue of its own,
in slot seconds, which takes what came and loses what so many workers would have served. What waits
there, beside what the formula foretold, corrects the formula count by count, and does not depend on
how many workers there really were. Where less waited, the formula is scaled down. Where more did,
bursts are to blame, and what one request more waits in a burst does not depend on how many bursts
there are: each request is reckoned to wait that much longer, whatever the rate.
"""

from typing import Final

import msgspec

from headrace.scaler.policy import staffing

MOST: Final = 16
PRIOR: Final = 60.0
"""Begins with the formula being right, for a request that waits a minute."""
MEMORY: Final = 4 * 3600.0
"""Half of what is known is forgotten after so many seconds."""
VALID: Final = 0.9
"""Utilisation up to which a steady state can be spoken of."""


class Counterfactual(msgspec.Struct):
    """Queues by number of workers (from 1), and sums over time: of waiting, and of work."""

    queues: list[float] = msgspec.field(default_factory=lambda: [0.0] * MOST)
    waited: list[float] = msgspec.field(default_factory=lambda: [PRIOR] * MOST)
    foretold: list[float] = msgspec.field(default_factory=lambda: [PRIOR] * MOST)
    work: list[float] = msgspec.field(default_factory=lambda: [PRIOR] * MOST)
    """Slot seconds that came while `waited` was watched."""

    def observe(
        self,
        came: int,
        step: float,
        *,
        slots: int,
        most: int,
        service: float,
        load: float,
        peakedness: float,
    ) -> None:
        """`came` requests in `step` seconds, under a load of `load` slots, for up to `most`."""
        keep = 0.5 ** (step / MEMORY)
        for place in range(min(most, MOST)):
            servers = (place + 1) * slots
            before = self.queues[place]
            after = max(before + came * service - servers * step, 0.0)
            if load > VALID * servers:
                self.queues[place] = min(after, servers * service)
                continue
            self.queues[place] = after
            area = (before + after) / 2 * step / service
            said = staffing.waiting(servers, load, peakedness) * step
            self.waited[place] = (self.waited[place] - PRIOR) * keep + area + PRIOR
            self.foretold[place] = (self.foretold[place] - PRIOR) * keep + said + PRIOR
            self.work[place] = (self.work[place] - PRIOR) * keep + came * service + PRIOR

    def corrections(self, most: int) -> tuple[staffing.Correction, ...]:
        """For 1 to `most` workers, rounded."""
        sums = zip(self.waited[:most], self.foretold[:most], self.work[:most], strict=True)
        return tuple(
            staffing.Correction(
                factor=round(min(waited / foretold, 1.0), 1),
                longer=float(f"{max(waited - foretold, 0.0) / work:.2g}"),
            )
            for waited, foretold, work in sums
        )

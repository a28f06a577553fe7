"""Exponential backoff: how long to wait after a number of failures in a row. Pure.

The caller supplies the randomness, because the core has none.
"""

from dataclasses import dataclass

_MAX_DOUBLINGS = 64
"""Without this, 2.0 to the power of the failures overflows a float after about 1,024 of them."""


@dataclass(frozen=True)
class Backoff:
    """A delay that doubles with each failure in a row, up to a maximum."""

    first: float
    """The delay after the first failure, in seconds, before jitter."""
    longest: float
    """The maximum of the delay, in seconds, before jitter."""
    jitter: float = 0.0
    """The fraction by which a delay may be shorter or longer: 0.2 means between 80 % and 120 %.

    Without jitter, all clients that lost the same server come back to it at the same moment.
    """

    def delay(self, failures: int, random: float = 0.5) -> float:
        """Return the delay after the given number of failures in a row, in seconds.

        The first failure has the number 1. `random` is at least 0 and below 1; 0.5 gives the delay without
        jitter. Returns 0 if there was no failure.
        """
        if failures < 1:
            return 0.0
        delay = min(self.first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.longest)
        return delay * (1 - self.jitter + 2 * self.jitter * random)

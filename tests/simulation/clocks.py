"""The wall clocks of machines. Each may be wrong, and may be set during the run.

The services read them through the product's own `SystemClock`.
"""

import asyncio

from tests.simulation.loop import EPOCH


class Clocks:
    """The offset of each machine's wall clock from the simulated time, in seconds. By default it is 0."""

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}

    def set(self, machine: str, offset: float) -> None:
        """Set the offset of a machine's clock."""
        self._offsets[machine] = offset

    def reset(self) -> None:
        """Correct every clock."""
        self._offsets.clear()

    def offset(self, machine: str) -> float:
        """Return the offset of the machine's clock."""
        return self._offsets.get(machine, 0.0)

    def wall(self, machine: str) -> float:
        """Return the machine's time of day, in seconds since 1970."""
        return EPOCH.timestamp() + self.now(machine)

    def now(self, machine: str) -> float:
        """Return the machine's time of day, in seconds since the simulation began."""
        return asyncio.get_running_loop().time() + self.offset(machine)

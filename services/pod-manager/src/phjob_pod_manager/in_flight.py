"""A count of the operations in flight, and a way to wait until none is left."""

import asyncio


class InFlight:
    """The number of operations that have begun and not ended."""

    def __init__(self) -> None:
        self._count = 0
        self._drained = asyncio.Event()
        self._drained.set()

    def begin(self) -> None:
        """Count an operation that begins."""
        self._count += 1
        self._drained.clear()

    def end(self) -> None:
        """Stop counting an operation, because it has ended."""
        self._count -= 1
        if not self._count:
            self._drained.set()

    async def drained(self) -> None:
        """Wait until no operation is in flight."""
        await self._drained.wait()

    def __bool__(self) -> bool:
        """Return whether any operation is in flight."""
        return self._count > 0

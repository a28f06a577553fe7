"""How much is under way, and waiting until nothing is."""

import asyncio


class UnderWay:
    """Counts what has begun and not ended."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """One more."""
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        """One less."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Return when nothing is."""
        await self._none.wait()

    def __bool__(self) -> bool:
        """Whether anything is."""
        return self._count > 0

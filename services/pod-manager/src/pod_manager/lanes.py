"""Work in lanes: one key's work strictly in sequence, different keys side by side."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pod_manager import metrics

_log = structlog.get_logger()


def failed(error: Exception) -> None:
    """Tell of an error that nobody foresaw: it ends the work that it happened in, and no other."""
    _log.error("lane_failed", exc_info=error)
    metrics.failed()


class Lanes:
    """Runs `work(key)` whenever a key was touched, once at a time for each key."""

    def __init__(self, work: Callable[[str], Awaitable[None]]) -> None:
        self._work = work
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._touched: set[str] = set()
        self._closed = False

    def touch(self, key: str) -> None:
        """Let the key's work run; if it runs already, once more when it has ended. Not after `close`."""
        if self._closed:
            return
        self._touched.add(key)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key))

    async def close(self) -> None:
        """Break off what runs; nothing runs any more, though messages come until the connection ends."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str) -> None:
        try:
            while key in self._touched:
                self._touched.discard(key)
                await self._work(key)
        except Exception as error:
            failed(error)
        finally:
            del self._tasks[key]

    def __len__(self) -> int:
        """How many keys have work under way."""
        return len(self._tasks)

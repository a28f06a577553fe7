"""A work queue by key: one key's work in sequence, different keys in parallel."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from phjob_runtime import metrics

RETRY_SECONDS = 30.0
"""The time after which work that failed runs again, even if its key is not added."""

_log = structlog.get_logger()


def report_failure(error: Exception) -> None:
    """Log and count an unexpected error, which ends only the work it occurred in."""
    _log.error("worker_failed", exc_info=error)
    metrics.worker_failed()


class KeyedWorkQueue:
    """Work by key: one key's work in sequence, different keys in parallel.

    `work(key)` runs for each key that is added, never twice at the same time for one key. As in client-go's
    work queue, a key that is added while its work runs is marked as dirty. Its work then runs once more,
    however often the key was added.
    """

    def __init__(self, work: Callable[[str], Awaitable[None]]) -> None:
        self._work = work
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        self._closed = False

    def add(self, key: str) -> None:
        """Run the key's work now, or again as soon as it has ended.

        Does nothing after `close`.
        """
        if self._closed:
            return
        self._dirty.add(key)
        if key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key))

    async def drain(self) -> None:
        """Wait until no key has work that runs or waits.

        This includes keys that are added during the call, but not work that failed and waits for
        `RETRY_SECONDS`. A caller inside `work` would wait for itself forever.
        """
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """Cancel all work.

        Afterwards `add` does nothing, because messages may still arrive.
        """
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str) -> None:
        try:
            while key in self._dirty:
                self._dirty.discard(key)
                try:
                    await self._work(key)
                except Exception as error:
                    report_failure(error)
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, self.add, key)
        finally:
            del self._tasks[key]

    def __len__(self) -> int:
        """Return the number of keys with work that runs or waits."""
        return len(self._tasks)

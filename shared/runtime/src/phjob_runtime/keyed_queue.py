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

    def __init__(self, work: Callable[[str], Awaitable[None]], max_running: int) -> None:
        """`max_running`: the number of keys whose work runs at the same time. The others wait in order.

        A key that waits takes 100 bytes, one whose work runs takes a task of several KiB.
        """
        self._work = work
        self._max_running = max_running
        self._waiting: dict[str, None] = {}
        """The keys whose work has not begun, because too many others run."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        """The keys that were added while their work runs."""
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    def add(self, key: str) -> None:
        """Run the key's work now, or again as soon as it has ended.

        Does nothing after `close`.
        """
        if self._closed:
            return
        if key in self._tasks:
            self._dirty.add(key)
        elif len(self._tasks) < self._max_running:
            self._start(key)
        else:
            self._waiting[key] = None

    def add_later(self, key: str) -> None:
        """Add the key after `RETRY_SECONDS`. Does nothing if that is scheduled already."""

        def retry() -> None:
            del self._retries[key]
            self.add(key)

        if key not in self._retries and not self._closed:
            self._retries[key] = asyncio.get_running_loop().call_later(RETRY_SECONDS, retry)

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
        self._waiting.clear()
        for retry in self._retries.values():
            retry.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: str) -> None:
        self._tasks[key] = asyncio.get_running_loop().create_task(self._run(key))

    async def _run(self, key: str) -> None:
        self._dirty.add(key)
        try:
            while key in self._dirty:
                self._dirty.discard(key)
                try:
                    await self._work(key)
                except Exception as error:
                    report_failure(error)
                    self.add_later(key)
        finally:
            del self._tasks[key]
            self._dirty.discard(key)
            if self._waiting and not self._closed:
                following = next(iter(self._waiting))
                del self._waiting[following]
                self._start(following)

    def __len__(self) -> int:
        """Return the number of keys with work that runs or waits."""
        return len(self._tasks) + len(self._waiting)

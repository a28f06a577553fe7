"""A process of the simulation: it can be killed, stopped for a while (SIGSTOP), and ended in order (SIGTERM).

Its code runs unchanged. It touches the world only through its ports, so whatever comes through them waits
while the process is stopped, and nothing gets through any more when it is dead.
"""

import asyncio
import contextvars
from collections.abc import Callable
from datetime import datetime

import structlog
from tests.simulation.loop import moment

from shared import runtime


class Process:
    """One replica of one service, from its start to its end."""

    def __init__(self, service: str, identity: str) -> None:
        self.service = service
        self.identity = identity
        self.alive = True
        self._awake = asyncio.Event()
        self._awake.set()
        self._task: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()
        self._on_wake: list[Callable[[], None]] = []

    @property
    def stopped(self) -> bool:
        """Whether it is not running now, though it may later."""
        return not self._awake.is_set()

    def start(self, connect: runtime.Connect, role: runtime.Role) -> None:
        """Run the service's own main loop."""
        service = runtime.Service(self.identity)
        self._context.run(structlog.contextvars.bind_contextvars, process=self.identity)
        self._task = asyncio.get_running_loop().create_task(
            runtime.keep_running(service, connect, role), context=self._context
        )

    async def awake(self) -> None:
        """Return when the process runs: at once, unless it is stopped; never if it is dead."""
        if self._awake.is_set() and self.alive:
            return
        await self._awake.wait()
        if not self.alive:
            raise asyncio.CancelledError

    def when_awake(self, call: Callable[[], None]) -> None:
        """Call it now, or when the process runs again."""
        if not self.alive:
            return
        if self.stopped:
            self._on_wake.append(call)
        else:
            self._context.copy().run(call)

    def stop(self) -> None:
        """SIGSTOP."""
        self._awake.clear()

    def go_on(self) -> None:
        """SIGCONT."""
        self._awake.set()
        waiting, self._on_wake = self._on_wake, []
        for call in waiting:
            self._context.copy().run(call)

    def kill(self) -> None:
        """SIGKILL: nothing of what it would still do gets through."""
        self.alive = False
        self._awake.set()
        self._on_wake.clear()
        if self._task:
            self._task.cancel()

    def terminate(self, ended: Callable[[], None]) -> None:
        """SIGTERM: it ends in its own way, and `ended` is called when it has."""
        if self._task and not self._task.done():
            self._task.add_done_callback(lambda _: self._end(ended))
            self._task.cancel()
        else:
            self._end(ended)

    def _end(self, ended: Callable[[], None]) -> None:
        self.kill()
        ended()

    @property
    def failure(self) -> BaseException | None:
        """Why the service's main loop has ended by itself, which it never should."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()


class ProcessClock:
    """The time of day as a process sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return moment(asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or when the process runs again."""
        await asyncio.sleep(seconds)
        await self._process.awake()

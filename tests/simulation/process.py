"""A simulated process of a service, which can be killed, paused (SIGSTOP) and terminated (SIGTERM).

The service's code runs unchanged. All its input and output goes through the simulated ports. They wait while
the process is paused, and pass nothing on once it is dead.
"""

import asyncio
import contextvars
from collections.abc import Callable

import structlog
from tests.simulation.clocks import Clocks

from phjob_runtime import service as runtime
from phjob_runtime.clock import SystemClock


class Process:
    """One replica of one service, from its start to its end."""

    def __init__(self, service: str, identity: str) -> None:
        self.service = service
        self.identity = identity
        self.is_alive = True
        self._running = asyncio.Event()
        self._running.set()
        self._task: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()
        self._on_resume: list[Callable[[], None]] = []

    @property
    def is_paused(self) -> bool:
        """Return whether the process is paused."""
        return not self._running.is_set()

    def start(self, connect: runtime.Connect, role: runtime.Role) -> None:
        """Run the service's own main loop."""
        service = runtime.Service(self.identity)
        self._context.run(structlog.contextvars.bind_contextvars, process=self.identity)
        self._task = asyncio.get_running_loop().create_task(
            runtime.run_with_reconnect(service, connect, role), context=self._context
        )

    async def wait_until_running(self) -> None:
        """Wait while the process is paused.

        Raises:
            CancelledError: the process is dead.

        """
        if self._running.is_set() and self.is_alive:
            return
        await self._running.wait()
        if not self.is_alive:
            raise asyncio.CancelledError

    def when_running(self, call: Callable[[], None]) -> None:
        """Make the call now, or when a paused process resumes. A dead process makes no calls."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._on_resume.append(call)
        else:
            self._context.copy().run(call)

    def pause(self) -> None:
        """Pause the process, as SIGSTOP does."""
        self._running.clear()

    def resume(self) -> None:
        """Resume the process, as SIGCONT does."""
        self._running.set()
        waiting, self._on_resume = self._on_resume, []
        for call in waiting:
            self._context.copy().run(call)

    def kill(self) -> None:
        """Kill the process, as SIGKILL does. The ports pass nothing on from now on."""
        self.is_alive = False
        self._running.set()
        self._on_resume.clear()
        if self._task:
            self._task.cancel()

    def terminate(self, on_end: Callable[[], None]) -> None:
        """Terminate the process, as SIGTERM does. `on_end` is called when it has shut down."""
        if self._task and not self._task.done():
            self._task.add_done_callback(lambda _: self._end(on_end))
            self._task.cancel()
        else:
            self._end(on_end)

    def _end(self, on_end: Callable[[], None]) -> None:
        self.kill()
        on_end()

    @property
    def failure(self) -> BaseException | None:
        """Return why the service's main loop ended by itself, which it never should."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()


class ProcessClock(SystemClock):
    """The clock of a process: the product's own `SystemClock`, on simulated time."""

    def __init__(self, process: Process, machine: str = "", clocks: Clocks | None = None) -> None:
        """Use the wall clock of the machine in `clocks`. Without `clocks`, it is correct."""
        clocks = clocks or Clocks()
        super().__init__(lambda: clocks.wall(machine), lambda: asyncio.get_running_loop().time())
        self._process = process

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, and then until the process runs."""
        await asyncio.sleep(seconds)
        await self._process.wait_until_running()

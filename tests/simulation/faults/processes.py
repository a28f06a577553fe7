"""Faults of the services' processes: they are killed, paused or terminated."""

import asyncio

from tests.simulation.faults.context import FaultContext

from phjob_runtime.amqp.topology import POD_MANAGER


class ProcessFaults:
    """The faults of processes, each as a coroutine that also ends it."""

    def __init__(self, context: FaultContext) -> None:
        self._context = context

    async def kill(self) -> None:
        """Kill a process, and start it again later."""
        if (slot := self._context.take_slot()) is None:
            return
        self._context.note(f"kill -9 {slot}")
        self._context.installation.kill(slot)
        await self._context.restart_later(slot)

    async def terminate(self) -> None:
        """Terminate a process, and start it again later."""
        if (slot := self._context.take_slot()) is None:
            return
        self._context.note(f"kill -TERM {slot}")
        ended = asyncio.Event()
        self._context.installation.terminate(slot, ended.set)
        await ended.wait()
        self._context.installation.cut(slot)
        await self._context.restart_later(slot)

    async def kill_while_writing(self) -> None:
        """Kill a pod-manager whose writes are in flight. They arrive amid those of its successor."""
        slots = [slot for slot in self._context.installation.slots if slot.service == POD_MANAGER]
        slot = self._context.random.choice(slots)
        if slot in self._context.disrupted or self._context.api.late:
            return
        self._context.disrupted.add(slot)
        self._context.api.late = 0.7
        await self._context.wait_for_change("phjobs")
        await asyncio.sleep(self._context.random.uniform(0, 2))
        self._context.api.late = 0
        self._context.note(f"kill -9 {slot} while it writes")
        self._context.installation.kill(slot)
        await self._context.restart_later(slot)

    async def pause(self) -> None:
        """Pause a process for a few seconds."""
        await self._pause_for(self._context.random.uniform(0.5, 6))

    async def pause_long(self) -> None:
        """Pause a process for so long that the broker replaces it as a consumer."""
        await self._pause_for(self._context.random.uniform(15, 50))

    async def _pause_for(self, seconds: float) -> None:
        if slot := self._context.take_slot():
            await self._context.pause_for(slot, seconds)

"""Faults that wait for a write or a message in flight, because a disruption at that moment causes a race."""

import asyncio
from contextlib import suppress

from tests.simulation.broker import Moment
from tests.simulation.faults.context import (
    ADMIT,
    CREATE,
    DELETE,
    HOLD,
    MAX_WAIT_SECONDS,
    REQUEUE,
    SETTLE,
    UNGATE,
    FaultContext,
)
from tests.simulation.kube import Kind, PendingRequest
from tests.simulation.nodes import is_gated
from tests.simulation.process import Process

from phjob_core.messages import Admit, Fence, Message
from phjob_runtime.amqp.topology import SCHEDULER


class RaceFaults:
    """The faults that wait for a moment, each as a coroutine that also ends it."""

    def __init__(self, context: FaultContext) -> None:
        self._context = context

    async def disrupt_writer(self) -> None:
        """Disrupt a pod-manager whose write is in flight, and let the write arrive late."""
        random = self._context.random
        kinds = (ADMIT, ADMIT, ("patch", "phjobs"), REQUEUE, CREATE, UNGATE, HOLD, DELETE)
        kind = random.choice(kinds)
        write = await self._intercept(kind)
        if write is None:
            return
        # At once, or after RabbitMQ has received the acknowledgements of earlier messages.
        await asyncio.sleep(
            random.choice((0, random.uniform(0, 4 * self._context.broker.conditions.latency)))
        )
        disruption = asyncio.ensure_future(
            self._context.disrupt(write.process, f"while it makes a {kind[0]} of {kind[1]}")
        )
        match random.choice(("later", "amid changes", "when there is a pod", "at a fence")):
            case "later":
                await asyncio.sleep(random.choice((random.uniform(0, 0.1), random.uniform(0, 15))))
            case "amid changes":
                await self._context.wait_for_changes()
            case "when there is a pod":
                await self._context.wait_for_pod(write.name)
            case _:
                if await self._wait_for(Moment.RECEIVED, Fence) and write.name:
                    self._context.note(f"the user of {write.name} cancels it")
                    self._context.store.edit("phjobs", write.name, cancel=True)
                    await self._wait_for_admission_of_another(write.name)
        self._context.note(f"the write of {write.process.identity} arrives")
        write.release()
        await disruption

    async def settle_during_admission(self) -> None:
        """Let a successor settle the command in execution, but not the next one yet.

        Or let the admission arrive after the fence of the next session.
        """
        random = self._context.random
        if (admission := await self._intercept(ADMIT)) is None:
            return
        await asyncio.sleep(random.choice((0, random.uniform(0, 0.2))))
        slot = self._context.installation.slot_of(admission.process)
        if slot and slot not in self._context.disrupted:
            self._context.note(f"cut {slot} from the broker while it admits {admission.name}")
            self._context.installation.cut(slot, notice=random.uniform(5, 20))
            if random.random() < 0.5:
                await self._wait_for(Moment.RECEIVED, Fence)
                await asyncio.sleep(random.uniform(0, 2))
            elif settlement := await self._intercept(SETTLE, random.uniform(1, 20)):
                self._context.note(
                    f"{settlement.process.identity} settles {settlement.name}, and gets no answer"
                )
                settlement.release()
        admission.release()

    async def open_session_during_admission(self) -> None:
        """Cut the scheduler off, and delay an admission until after the next fence."""
        random = self._context.random
        if (admission := await self._intercept(ADMIT)) is None:
            return
        self._context.note(f"cut the scheduler from the broker while {admission.name} is admitted")
        for slot in self._context.installation.slots:
            if slot.service == SCHEDULER:
                self._context.installation.cut(slot, notice=0)
        if await self._wait_for(Moment.RECEIVED, Fence):
            await asyncio.sleep(random.choice((0, random.uniform(0, 5))))
        admission.release()

    async def delay_gate_removal(self) -> None:
        """Let the removal of a gate arrive when the job already has its next gated pod."""
        if (removal := await self._intercept(UNGATE)) is None:
            return
        if (pod := self._context.store.get("pods", removal.name)) is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                while not self._has_next_gated_pod(removal.name, pod["metadata"]["uid"]):
                    await self._context.store.wait_for_change("pods")
        self._context.note(f"the removal of the gate of {removal.name} arrives")
        removal.release()

    def _has_next_gated_pod(self, name: str, uid: str) -> bool:
        pod = self._context.store.get("pods", name)
        return pod is not None and pod["metadata"]["uid"] != uid and is_gated(pod)

    async def disrupt_command(self) -> None:
        """Disrupt a process that has just sent or received a command."""
        random = self._context.random
        moment = random.choice((Moment.SENT, Moment.RECEIVED))
        process = await self._wait_for(moment, random.choice((Admit, Admit, Fence)))
        if process:
            await asyncio.sleep(random.choice((0, 0, random.uniform(0, 0.01), random.uniform(0, 0.2))))
            await self._context.disrupt(process, f"which has just {moment.name.lower()} a command")

    async def _intercept(self, kind: Kind, max_seconds: float = MAX_WAIT_SECONDS) -> PendingRequest | None:
        """Wait for a write of the kind. Returns the write, which is in flight until it is released."""
        return await self._context.api.write_interceptor.wait_for(kind, max_seconds)

    async def _wait_for(self, moment: Moment, kind: type[Message]) -> Process | None:
        """Wait until a message of the kind is sent or received. Returns the process that does so."""
        return await self._context.broker.message_interceptor.wait_for((moment, kind), MAX_WAIT_SECONDS)

    async def _wait_for_admission_of_another(self, name: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                while True:
                    await self._context.store.wait_for_change("phjobs")
                    job = self._context.store.changes_of["phjobs"][-1].object
                    if job["status"].get("reason") == "Admitted" and job["metadata"]["name"] != name:
                        return

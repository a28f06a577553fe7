"""The context of all faults: the simulated parts that they break, and the events that they wait for."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from tests.simulation.broker import MAX_LATE_DELIVERY_SECONDS, Broker
from tests.simulation.installation import Installation, ReplicaSlot
from tests.simulation.kube import ApiConditions, Kind
from tests.simulation.process import Process
from tests.simulation.store import Store

from phjob_runtime.amqp.bus import HEARTBEAT_SECONDS

LOW_LATENCY_SECONDS = 0.01
"""The latency after the last fault."""
MAX_WAIT_SECONDS = 30.0
"""The maximum time that a fault waits for a write or a message."""
MIN_DETECTION_SECONDS = 2.0 * HEARTBEAT_SECONDS
"""The minimum time after which the broker breaks the connection of a silent client."""

ADMIT: Kind = ("admit", "phjobs")
REQUEUE: Kind = ("requeue", "phjobs")
SETTLE: Kind = ("settle", "phjobs")
CREATE: Kind = ("create", "pods")
UNGATE: Kind = ("ungate", "pods")
HOLD: Kind = ("hold", "pods")
DELETE: Kind = ("delete", "pods")
"""Kinds of writes that faults wait for."""


@dataclass
class FaultContext:
    """One installation, the broker and the API server, for the faults that break them."""

    random: Random
    installation: Installation
    store: Store
    api: ApiConditions
    broker: Broker
    note: Callable[[str], None]
    """The function that adds a line about a fault to the trace."""
    disrupted: set[ReplicaSlot] = field(default_factory=set)
    """The replicas that a fault disrupts now. No other fault kills or pauses them."""

    def take_slot(self) -> ReplicaSlot | None:
        """Draw a replica that no fault disrupts, and mark it as disrupted."""
        free = [slot for slot in self.installation.slots if slot not in self.disrupted]
        if not free:
            return None
        slot = self.random.choice(free)
        self.disrupted.add(slot)
        return slot

    async def wait_for_change(self, plural: str, *, at_once: bool = False) -> None:
        """Wait for a change of the kind, and then a moment, unless `at_once`.

        A fault right after a change reveals most errors.
        """
        try:
            async with asyncio.timeout(10):
                await self.store.wait_for_change(plural)
        except TimeoutError:
            return
        if not at_once:
            await asyncio.sleep(self.random.choice((0, self.random.uniform(0, 0.2))))

    async def wait_for_changes(self) -> None:
        """Wait for one or several changes of jobs."""
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 6))):
            await self.wait_for_change("phjobs", at_once=True)

    async def wait_for_pod(self, name: str) -> None:
        """Wait until there is a pod of that name. Without a name, wait until any pod changes."""
        await self.wait_for_change("pods", at_once=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                while name and not self.store.get("pods", name):
                    await self.store.wait_for_change("pods")

    async def restart_later(self, slot: ReplicaSlot) -> None:
        """Start a dead process again, after a delay."""
        await asyncio.sleep(self.random.choice((0.2, self.random.uniform(0.2, 10))))
        self.note(f"start {slot}")
        self.installation.start(slot)
        self.disrupted.discard(slot)

    async def pause_for(self, slot: ReplicaSlot, seconds: float) -> None:
        """Pause a process. If that takes long, the broker breaks its connection meanwhile."""
        self.note(f"kill -STOP {slot} for {seconds:.1f} s")
        self.installation.processes[slot].pause()
        detection = MIN_DETECTION_SECONDS + self.random.uniform(0, 10)
        if seconds > detection:
            await asyncio.sleep(detection)
            # It notices the loss a little after it resumes. Until then it acts beside its successor.
            notice = self.random.uniform(0, 1)
            self.installation.cut(slot, notice=notice + seconds - detection)
            seconds -= detection
        await asyncio.sleep(seconds)
        self.note(f"kill -CONT {slot}")
        self.installation.processes[slot].resume()
        self.disrupted.discard(slot)

    async def disrupt(self, process: Process, when: str) -> None:
        """Kill the process, pause it, or cut it from the broker. `when` is for the trace."""
        random, slot = self.random, self.installation.slot_of(process)
        if slot is None or slot in self.disrupted:
            return
        extra_delay = random.choice((0, random.uniform(0, MAX_LATE_DELIVERY_SECONDS)))
        delivery = asyncio.ensure_future(self.deliver_amid_changes())
        match random.choice(("kill", "cut", "cut", "pause")):
            case "kill":
                self.disrupted.add(slot)
                self.note(f"kill -9 {slot} {when}")
                self.installation.kill(slot, extra_delay=extra_delay)
                await self.restart_later(slot)
            case "cut":
                seconds = random.choice((random.uniform(0, 0.2), random.uniform(1, 20)))
                self.note(f"cut {slot} from the broker {when}, noticed after {seconds:.1f} s")
                self.installation.cut(slot, notice=seconds, extra_delay=extra_delay)
                await asyncio.sleep(seconds)
            case _:
                self.disrupted.add(slot)
                await self.pause_for(slot, random.choice((random.uniform(0.5, 6), random.uniform(15, 50))))
        await delivery

    async def deliver_amid_changes(self) -> None:
        """Wait for some changes, then deliver what is in flight from lost connections."""
        await self.wait_for_changes()
        self.broker.deliver_pending()

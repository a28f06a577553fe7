"""A simulated installation: every replica of every shard of the services.

The services' code is the real one, including the wiring in each `__main__`. Only the ports are simulated.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.simulation.broker import Broker
from tests.simulation.clocks import Clocks
from tests.simulation.kube import ApiConditions, SimulatedKube
from tests.simulation.process import Process, ProcessClock
from tests.simulation.store import Store

import phjob_janitor.__main__
import phjob_pod_manager.__main__
import phjob_scheduler.__main__
import phjob_watcher.__main__
from phjob_runtime import service
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.port import Bus, Connection
from phjob_runtime.settings import JobSubmission, SettingsFile


@dataclass(frozen=True)
class ReplicaSlot:
    """A replica of a service. One process after the other runs it."""

    service: str
    shard: int
    replica: int

    def __str__(self) -> str:
        return f"{self.service}.{self.shard}-{self.replica}"


class Installation:
    """All processes of one installation."""

    def __init__(
        self,
        store: Store,
        conditions: ApiConditions,
        broker: Broker,
        clocks: Clocks,
        settings: JobSubmission,
        *,
        shards: int,
        replicas: int,
    ) -> None:
        self._store = store
        self._conditions = conditions
        self._broker = broker
        self._clocks = clocks
        self._settings = settings
        self._shards = shards
        self._starts = 0
        self.slots = [
            ReplicaSlot(service, shard, replica)
            for service in topology.SERVICES
            for shard in range(1 if service == topology.WATCHER else shards)
            for replica in range(replicas)
        ]
        self.processes: dict[ReplicaSlot, Process] = {}

    def start(self, slot: ReplicaSlot) -> None:
        """Start a process for the replica."""
        self._starts += 1
        process = Process(slot.service, f"{slot}~{self._starts}")
        self.processes[slot] = process
        self._run(slot, process)

    def slot_of(self, process: Process) -> ReplicaSlot | None:
        """Return the replica that the process runs; None if another process has replaced it."""
        return next((slot for slot, current in self.processes.items() if current is process), None)

    def kill(self, slot: ReplicaSlot, extra_delay: float = 0.0) -> None:
        """Kill the replica's process. Its messages in flight may arrive `extra_delay` seconds later."""
        process = self.processes[slot]
        process.kill()
        self.cut(slot, extra_delay=extra_delay)

    def terminate(self, slot: ReplicaSlot, on_end: Callable[[], None]) -> None:
        """Terminate the replica's process. `on_end` is called when it has shut down."""
        self.processes[slot].terminate(on_end)

    def cut(self, slot: ReplicaSlot, notice: float = 0.0, extra_delay: float = 0.0) -> None:
        """Cut the connection of the replica's process to RabbitMQ, as `Broker.drop` does."""
        process = self.processes[slot]
        for connection in list(self._broker.connections):
            if connection.process is process:
                self._broker.drop(connection, notice=notice, extra_delay=extra_delay)

    def _run(self, slot: ReplicaSlot, process: Process) -> None:
        clock = ProcessClock(process, str(slot), self._clocks)
        api = SimulatedKube(self._store, self._conditions, process)

        async def role(service: service.Service, bus: Bus) -> None:
            shard = topology.Shard(slot.shard, self._shards)
            match slot.service:
                case topology.WATCHER:
                    await phjob_watcher.__main__.serve(
                        service, bus, api, clock, self._shards, self._settings.gpus
                    )
                case topology.SCHEDULER:
                    await phjob_scheduler.__main__.serve(service, bus, clock, shard, self._settings)
                case topology.JANITOR:
                    await phjob_janitor.__main__.serve(service, bus, clock, shard, self._settings)
                case topology.POD_MANAGER:
                    file = SettingsFile(jobSubmission=self._settings)
                    await phjob_pod_manager.__main__.serve(
                        service, bus, api, clock, shard=shard, file=file, archive=None
                    )

        def connect() -> AbstractAsyncContextManager[Connection]:
            return self._broker.connect(process)

        process.start(connect, role)

    async def restart(self) -> None:
        """Terminate every process in turn, and start it again."""
        for slot in self.slots:
            ended = asyncio.Event()
            self.terminate(slot, ended.set)
            await ended.wait()
            self.cut(slot)
            self.start(slot)

    async def end(self) -> None:
        """Kill all processes, and let their tasks end."""
        for slot in self.slots:
            self.kill(slot)
        await asyncio.sleep(0)

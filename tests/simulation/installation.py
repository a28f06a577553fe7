"""Our services on a simulated cluster: every replica of every shard, started, ended and started again.

The code of the services is the real one, down to the wiring in each `__main__`; only the ports are simulated.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.simulation.broker import Broker
from tests.simulation.kube import ApiWeather, SimulatedKube
from tests.simulation.process import Process, ProcessClock
from tests.simulation.store import Store

import janitor.__main__
import pod_manager.__main__
import scheduler.__main__
import watcher.__main__
from shared import bus, runtime, topology
from shared.settings import File, JobSubmission

SETTINGS = JobSubmission(
    preparingTimeoutSeconds=8, defaultActiveDeadlineSeconds=60, defaultTTLSecondsAfterFinished=0
)


@dataclass(frozen=True)
class Post:
    """What some process has to do."""

    service: str
    shard: int
    replica: int

    def __str__(self) -> str:
        return f"{self.service}.{self.shard}-{self.replica}"


class Installation:
    """All processes of one installation."""

    def __init__(self, store: Store, weather: ApiWeather, broker: Broker, shards: int, replicas: int) -> None:
        self._store = store
        self._weather = weather
        self._broker = broker
        self._shards = shards
        self._starts = 0
        self.posts = [
            Post(service, shard, replica)
            for service in topology.SERVICES
            for shard in range(1 if service == topology.WATCHER else shards)
            for replica in range(replicas)
        ]
        self.processes: dict[Post, Process] = {}

    def start(self, post: Post) -> None:
        """Start a process at its post."""
        self._starts += 1
        process = Process(post.service, f"{post}~{self._starts}")
        self.processes[post] = process
        self._run(post, process)

    def post_of(self, process: Process) -> Post | None:
        """Whose post it is; None if it is there no more."""
        return next((post for post, there in self.processes.items() if there is process), None)

    def kill(self, post: Post, straggle: float = 0.0) -> None:
        """SIGKILL; what it has sent last may come so much later."""
        process = self.processes[post]
        process.kill()
        self.cut(post, straggle=straggle)

    def terminate(self, post: Post, ended: Callable[[], None]) -> None:
        """SIGTERM."""
        self.processes[post].terminate(ended)

    def cut(self, post: Post, notice: float = 0.0, straggle: float = 0.0) -> None:
        """Cut the process's connection to the broker."""
        process = self.processes[post]
        for connection in list(self._broker.connections):
            if connection.process is process:
                self._broker.drop(connection, notice=notice, straggle=straggle)

    def _run(self, post: Post, process: Process) -> None:
        clock = ProcessClock(process)
        api = SimulatedKube(self._store, self._weather, process)

        async def role(service: runtime.Service, bus: bus.Bus) -> None:
            match post.service:
                case topology.WATCHER:
                    await watcher.__main__.serve(service, bus, api, clock, self._shards)
                case topology.SCHEDULER:
                    await scheduler.__main__.serve(service, bus, clock, post.shard, self._shards)
                case topology.JANITOR:
                    part = post.shard, self._shards
                    await janitor.__main__.serve(service, bus, clock, part, SETTINGS)
                case topology.POD_MANAGER:
                    file = File(jobSubmission=SETTINGS)
                    await pod_manager.__main__.serve(
                        service, bus, api, clock, shard=post.shard, file=file, archive=None
                    )

        def connect() -> AbstractAsyncContextManager[bus.Connection]:
            return self._broker.connect(process)

        process.start(connect, role)

    async def end(self) -> None:
        """Kill everybody, and let what is left of them go."""
        for post in self.posts:
            self.kill(post)
        await asyncio.sleep(0)

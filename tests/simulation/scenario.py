"""What happens in a simulated cluster besides our services: users, a kubelet, the garbage collector.

All of it is drawn from the seed. The kubelet gives each pod a node, starts its command, ends it, and obeys
deletions in its own time; some pods never start.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.loop import rfc3339
from tests.simulation.store import Change, Object, Store
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type

USERS = ("ann", "bob", "lin")
GPU = "nvidia.com/gpu"
TYPES = {f"gpu-{gpus}": gpus for gpus in (1, 2, 3)}
CATALOG = ("phgroups", "instancetypes", "images")
REJECTED = 0.3
GONE, EDITED = 0.25, 0.35
SUBMITTING = 25.0
"""Seconds in which users submit."""


@dataclass(frozen=True)
class Group:
    """A group, and what of its order can be promised."""

    name: str
    group_quota: dict[str, int]
    user_quota: dict[str, int] = field(default_factory=dict)
    notebook: int = 0
    """GPUs that a Jupyter server of it holds from before our services began."""


@dataclass(frozen=True)
class Scenario:
    """One run's cluster and users."""

    groups: tuple[Group, ...]
    jobs: int
    stuck: float
    """Of each job: that its pod never starts."""


def draw(random: Random) -> Scenario:
    """A scenario: a strict FIFO, one with user quotas, and maybe one that shares its pool with Jupyter."""
    groups = [
        Group("fifo", {"gpu": random.randint(3, 5)}),
        Group("users", {"gpu": random.randint(3, 6)}, {"gpu": 3}),
        Group("shared", {"gpu": 4}, notebook=random.randint(1, 2)),
    ]
    return Scenario(tuple(groups[: random.randint(1, 3)]), random.randint(4, 14), random.choice((0.1, 0.5)))


class Cluster:
    """Users, kubelet and garbage collector at work on a store."""

    def __init__(self, store: Store, random: Random, scenario: Scenario) -> None:
        self._store = store
        self._random = random
        self.scenario = scenario
        self._tasks: set[asyncio.Task[None]] = set()
        self._lives: dict[str, dict[str, str]] = {}

    def begin(self) -> None:
        """Make the catalog, and start everybody."""
        store = self._store
        store.create("images", an_image())
        for name, gpus in TYPES.items():
            store.create("instancetypes", an_instance_type(name, gpus=gpus))
        for group in self.scenario.groups:
            quotas: dict[str, Any] = {"groupQuota": group.group_quota}
            if group.user_quota:
                quotas["userQuota"] = group.user_quota
            store.create("phgroups", a_group(group.name, **quotas, instanceTypes=list(TYPES)))
            if group.notebook:
                pod = a_notebook("jupyter", group=group.name, user="lin", **{GPU: str(group.notebook)})
                store.create("pods", pod)
                store.bind("jupyter", "node-1")
                self._later(self._random.uniform(5, 40), lambda: store.delete("pods", "jupyter"))
        self._spawn(self._kubelet())
        self._spawn(self._garbage_collector())
        for number in range(self.scenario.jobs):
            self._spawn(self._user(number))

    def end(self) -> None:
        """Stop everybody."""
        for task in self._tasks:
            task.cancel()

    # --- users ---

    async def _user(self, number: int) -> None:
        """Submit one job, and maybe think again."""
        random, store = self._random, self._store
        at = random.choice((random.uniform(0, SUBMITTING), random.choice((1.0, 5.0, 12.0))))
        fields: dict[str, Any] = {"requeueLimit": 4}
        if random.random() < self.scenario.stuck:
            fields |= {"start": "never", "requeueLimit": random.randint(0, 2)}
        else:
            fields |= {"run_for": random.choice((0.0, random.uniform(0.2, 3), random.uniform(1, 20)))}
            fields |= {"exit_code": random.choice((0, 0, 0, 1))}
        if random.random() < 0.15:
            fields["activeDeadlineSeconds"] = random.randint(1, 8)
        if random.random() < 0.4:
            fields["ttlSecondsAfterFinished"] = random.randint(1, 20)
        name = f"job-{number}"
        job = a_job(
            name,
            group=random.choice(self.scenario.groups).name,
            user=random.choice(USERS),
            instanceType=random.choice(list(TYPES)),
            **fields,
        )
        thought = random.random()
        if GONE <= thought < EDITED:
            # A second of its own: if it is edited before its place is noted, it has none in its second.
            at = SUBMITTING + number
        await asyncio.sleep(at)
        store.create("phjobs", job)
        await self._thinks(name)
        if thought < 0.15:
            store.edit("phjobs", name, cancel=True)
        elif thought < GONE:
            store.delete("phjobs", name)
        elif thought < EDITED:
            store.edit("phjobs", name, activeDeadlineSeconds=random.randint(1, 30))

    async def _thinks(self, name: str) -> None:
        """Wait for some time, or until the job has just been admitted."""
        patience = self._random.expovariate(1 / 8)
        if self._random.random() < 0.5:
            await asyncio.sleep(patience)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(patience + 60):
                while (job := self._store.get("phjobs", name)) and job["status"]["phase"] == "Pending":
                    await self._store.changed("phjobs")
            await asyncio.sleep(self._random.uniform(0, 0.3))

    # --- Kubernetes ---

    async def _kubelet(self) -> None:
        """Start a life for each pod that appears."""
        await self._each("pods", self._pod_changed)

    def _pod_changed(self, change: Change) -> None:
        uid, name = change.object["metadata"]["uid"], change.object["metadata"]["name"]
        if change.gone:
            return
        if change.before is None and name != "jupyter":
            self._spawn(self._life(name, uid))
        deleting = "deletionTimestamp" in change.object["metadata"]
        if deleting and change.before and "deletionTimestamp" not in change.before["metadata"]:
            self._spawn(self._end_of(name, uid))

    async def _life(self, name: str, uid: str) -> None:
        random = self._random
        await asyncio.sleep(random.uniform(0.05, 1))
        if (pod := self._pod(name, uid)) is None:
            return
        annotations = pod["metadata"].get("annotations") or {}
        self._store.bind(name, f"node-{random.randint(1, 2)}")
        if annotations.get("dev.primehub.io/start") == "never":
            if random.random() < REJECTED:
                self._store.status("pods", name, {"phase": "Failed", "reason": "OutOfcpu"})
            return
        await asyncio.sleep(random.choice((random.uniform(0.05, 1), random.uniform(1, 12))))
        if (pod := self._pod(name, uid)) is None or "deletionTimestamp" in pod["metadata"]:
            return
        started = rfc3339(self._now())
        seconds = float(annotations.get("dev.primehub.io/run-for", "1"))
        if seconds:
            self._say(name, "Running", {"running": {"startedAt": started}})
            await asyncio.sleep(seconds)
            if (pod := self._pod(name, uid)) is None or pod["status"]["phase"] != "Running":
                return
        self._ended(name, int(annotations.get("dev.primehub.io/exit-code", "0")), started)

    async def _end_of(self, name: str, uid: str) -> None:
        """Obey a deletion."""
        await asyncio.sleep(self._random.uniform(0.05, 3))
        pod = self._pod(name, uid)
        phase = pod["status"]["phase"] if pod else ""
        if pod and phase in {"Pending", "Running"} and self._random.random() < 0.5:
            if phase == "Running":
                started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
                self._ended(name, 143, started)
            else:  # Since Kubernetes 1.27 a pod that is deleted before it started ends, too.
                self._store.status("pods", name, {"phase": "Failed"})
            await asyncio.sleep(self._random.uniform(0.01, 0.5))
        if self._pod(name, uid):
            self._store.remove("pods", name)

    def _ended(self, name: str, code: int, started: str) -> None:
        terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": started,
            "finishedAt": rfc3339(self._now()),
        }
        self._say(name, "Succeeded" if code == 0 else "Failed", {"terminated": terminated})

    def _say(self, name: str, phase: str, state: Object) -> None:
        containers = [{"name": "main", "state": state}]
        self._store.status("pods", name, {"phase": phase, "containerStatuses": containers})

    def _pod(self, name: str, uid: str) -> Object | None:
        pod = self._store.get("pods", name)
        return pod if pod and pod["metadata"]["uid"] == uid else None

    async def _garbage_collector(self) -> None:
        """Delete the pods of jobs that are no more, also those that come too late."""
        await asyncio.gather(
            self._each("phjobs", self._job_changed), self._each("pods", self._orphan_changed)
        )

    def _job_changed(self, change: Change) -> None:
        if change.gone:
            self._later(self._random.uniform(0.05, 2), lambda: self._collect(change.object))

    def _orphan_changed(self, change: Change) -> None:
        owners = change.object["metadata"].get("ownerReferences") or ()
        if change.before is None and owners and self._store.get("phjobs", owners[0]["name"]) is None:
            uid = {"metadata": {"uid": owners[0]["uid"]}}
            self._later(self._random.uniform(0.05, 2), lambda: self._collect(uid))

    def _collect(self, job: Object) -> None:
        for pod in self._store.all("pods"):
            owners = pod["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == job["metadata"]["uid"] for owner in owners):
                self._store.delete("pods", pod["metadata"]["name"], uid=pod["metadata"]["uid"])

    # --- helpers ---

    async def _each(self, plural: str, see: Callable[[Change], None]) -> None:
        """See every change of the kind, a little later."""
        changes, seen = self._store.of[plural], 0
        while True:
            while seen < len(changes):
                see(changes[seen])
                seen += 1
            await self._store.changed(plural)
            await asyncio.sleep(self._random.uniform(0, 0.05))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""The cluster of one run: its catalog, users, nodes, garbage collector and third parties."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.simulation.clocks import Clocks
from tests.simulation.hub import Hub
from tests.simulation.nodes import Nodes
from tests.simulation.scenario import GATED_NOTEBOOKS, GPU, INSTANCE_TYPES, SIDECARS, Scenario
from tests.simulation.store import Change, Store
from tests.simulation.third_parties import ThirdParties
from tests.simulation.users import Users, image_of
from tests.support.builders import IMAGE, a_group, a_notebook, an_image, an_instance_type


class Cluster:
    """Everything but the services that writes to the store."""

    def __init__(
        self, store: Store, random: Random, scenario: Scenario, clocks: Clocks, machines: Sequence[str]
    ) -> None:
        """`machines` are the names of the machines that run the services."""
        self._store = store
        self._random = random
        self.scenario = scenario
        self._tasks: set[asyncio.Task[None]] = set()
        self._user_tasks: list[asyncio.Task[None]] = []
        self.nodes = Nodes(store, random, clocks, sidecars=SIDECARS in scenario.third_parties)
        self.third_parties = ThirdParties(store, random, scenario, self.nodes, clocks, machines)
        self._users = Users(store, random, scenario)
        self._hub = Hub(store, scenario)

    def begin(self) -> None:
        """Create the catalog, and start the users, the nodes and the garbage collector."""
        store = self._store
        store.create("images", an_image())
        for name, gpus in INSTANCE_TYPES.items():
            store.create("instancetypes", an_instance_type(name, gpus=gpus))
        images = [image_of(f"job-{number}") for number in range(self.scenario.jobs)]
        for group in self.scenario.groups:
            quotas: dict[str, Any] = {"groupQuota": group.group_quota}
            if group.user_quota:
                quotas["userQuota"] = group.user_quota
            if group.max_pending_per_user:
                quotas["maxPendingPerUser"] = group.max_pending_per_user
            granted = {"instanceTypes": list(INSTANCE_TYPES), "images": [IMAGE, *images]}
            store.create("phgroups", a_group(group.name, **quotas, **granted))
            if group.notebook:
                pod = a_notebook("jupyter", group=group.name, user="lin", **{GPU: str(group.notebook)})
                store.create("pods", pod)
                store.bind("jupyter", "node-1")
                self._call_later(self._random.uniform(5, 40), self._stop_notebook)
        self.nodes.begin()
        self._spawn(self._collect_garbage())
        if GATED_NOTEBOOKS in self.scenario.third_parties:
            self._user_tasks.append(self._spawn(self._hub.run()))
        for number in range(self.scenario.jobs):
            self._user_tasks.append(self._spawn(self._users.submit(number)))

    @property
    def has_active_users(self) -> bool:
        """Return whether a user may still submit, edit or delete a job."""
        return not all(task.done() for task in self._user_tasks)

    def end(self) -> None:
        """Stop everything that writes to the store."""
        self.nodes.end()
        for task in self._tasks:
            task.cancel()

    def _stop_notebook(self) -> None:
        if self._store.get("pods", "jupyter"):
            self._store.remove("pods", "jupyter")

    async def _collect_garbage(self) -> None:
        """Delete the pods of deleted jobs, also those that are created after the deletion."""
        await asyncio.gather(self._watch("phjobs", self._on_job), self._watch("pods", self._on_pod))

    def _on_job(self, change: Change) -> None:
        if change.gone:
            self._call_later(
                self._random.uniform(0.05, 2), lambda: self._delete_pods_of(change.object["metadata"]["uid"])
            )

    def _on_pod(self, change: Change) -> None:
        owners = change.object["metadata"].get("ownerReferences") or ()
        if change.before is not None or not owners:
            return
        job = self._store.get("phjobs", owners[0]["name"])
        if job is None or job["metadata"]["uid"] != owners[0]["uid"]:
            self._call_later(self._random.uniform(0.05, 2), lambda: self._delete_pods_of(owners[0]["uid"]))

    def _delete_pods_of(self, job: str) -> None:
        for pod in self._store.all("pods"):
            owners = pod["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == job for owner in owners):
                self._store.delete("pods", pod["metadata"]["name"], uid=pod["metadata"]["uid"])

    async def _watch(self, plural: str, observe: Callable[[Change], None]) -> None:
        """Call `observe` with every change of the kind, after a short delay."""
        changes, seen = self._store.changes_of[plural], 0
        while True:
            while seen < len(changes):
                observe(changes[seen])
                seen += 1
            await self._store.wait_for_change(plural)
            await asyncio.sleep(self._random.uniform(0, 0.05))

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

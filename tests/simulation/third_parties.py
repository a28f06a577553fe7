"""People and tools that interfere with the cluster while the services run.

The scenario decides which of them a run has. At the end, everything that they changed is restored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from tests.simulation.clocks import Clocks
from tests.simulation.hub import JUPYTERHUB
from tests.simulation.nodes import Node, Nodes
from tests.simulation.scenario import (
    CATALOG,
    COLLECT_PODS,
    DELETE_PODS,
    DRAIN,
    GPU,
    INSTANCE_TYPES,
    LABELS,
    LOSE_NODES,
    NODE_CLOCKS,
    NOTEBOOKS,
    ORPHANS,
    QUOTAS,
    RECREATE,
    REMOVE_NODES,
    SERVICE_CLOCKS,
    SLOW_NODES,
    USERS,
    Scenario,
)
from tests.simulation.store import FINISHED_POD_PHASES, Object, Store, job_of
from tests.support.builders import a_notebook

from phjob_core.labels import GROUP_LABEL, USER_LABEL, label_value

INTERFERENCE_PERIOD_SECONDS = 60.0
"""The time from the beginning in which third parties interfere."""
AN_OPERATOR, AN_ADMINISTRATOR = "an operator", "an administrator"

Action = Callable[[], Awaitable[None]]


class ThirdParties:
    """The third parties of one run."""

    def __init__(
        self,
        store: Store,
        random: Random,
        scenario: Scenario,
        nodes: Nodes,
        clocks: Clocks,
        machines: Sequence[str],
    ) -> None:
        """`machines` are the names of the machines that run the services."""
        self._store = store
        self._random = random
        self._scenario = scenario
        self._nodes = nodes
        self._clocks = clocks
        self._machines = machines
        self._notebooks = 0
        self._original: dict[tuple[str, str], Object] = {}

    async def interfere(self) -> None:
        """Interfere until the period is over, then restore everything that was changed."""
        self._original = {
            (plural, item["metadata"]["name"]): item
            for plural in ("phgroups", "instancetypes", "images")
            for item in self._store.all(plural)
        }
        actions: dict[str, tuple[float, Action]] = {
            DELETE_PODS: (4, self._delete_pod),
            COLLECT_PODS: (3, self._collect_finished_pods),
            DRAIN: (15, lambda: self._nodes.drain(self._draw_node(), self._random.uniform(1, 6))),
            REMOVE_NODES: (20, lambda: self._nodes.remove(self._draw_node(), self._random.uniform(1, 8))),
            LOSE_NODES: (15, lambda: self._nodes.lose(self._draw_node(), self._random.uniform(0.5, 20))),
            SLOW_NODES: (10, self._slow_node),
            LABELS: (3, self._edit_labels),
            QUOTAS: (5, self._edit_quota),
            CATALOG: (4, self._edit_catalog),
            RECREATE: (8, self._recreate_object),
            NOTEBOOKS: (4, self._run_notebook),
            NODE_CLOCKS: (10, self._set_node_clock),
            SERVICE_CLOCKS: (10, self._set_service_clock),
            ORPHANS: (8, self._delete_job_without_pod),
        }
        if NODE_CLOCKS in self._scenario.third_parties:
            for _ in self._nodes.all:
                await self._set_node_clock()
        chosen = [action for name, action in actions.items() if name in self._scenario.third_parties]
        await asyncio.gather(*(self._repeat(interval, act) for interval, act in chosen))
        self._restore()

    async def _repeat(self, interval: float, act: Action) -> None:
        """Act again and again until the period is over. `interval` is the mean time in between."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._random.expovariate(1 / interval))
            if now() > INTERFERENCE_PERIOD_SECONDS:
                return
            await act()

    def _restore(self) -> None:
        """Restore the catalog and the nodes, and correct every clock."""
        self._clocks.reset()
        with self._store.acting_as(AN_ADMINISTRATOR):
            for (plural, name), item in self._original.items():
                if self._store.get(plural, name) is None:
                    self._recreate(plural, item)
                self._store.edit(plural, name, **item["spec"])
        for node in self._nodes.all.values():
            node.slow = 1.0

    # --- pods ---

    async def _delete_pod(self) -> None:
        """Delete a pod as `kubectl delete pod` does, sometimes with `--force`."""
        pods = self._job_pods()
        if pods:
            metadata = self._random.choice(pods)["metadata"]
            with self._store.acting_as(AN_OPERATOR):
                force = self._random.random() < 0.25
                self._store.delete("pods", metadata["name"], uid=metadata["uid"], force=force)

    async def _collect_finished_pods(self) -> None:
        """Delete finished pods, as the pod garbage collector does above its threshold."""
        with self._store.acting_as("the pod garbage collector"):
            for pod in self._job_pods():
                if pod["status"]["phase"] in FINISHED_POD_PHASES:
                    self._store.remove("pods", pod["metadata"]["name"])

    async def _edit_labels(self) -> None:
        """Remove or change the label of a pod's group or user."""
        pods = self._job_pods()
        if not pods:
            return
        pod = self._random.choice(pods)
        label, value = self._random.choice(
            ((GROUP_LABEL, ""), (GROUP_LABEL, label_value("another")), (USER_LABEL, ""), (USER_LABEL, "x"))
        )
        labels = {n: v for n, v in pod["metadata"]["labels"].items() if n != label}
        if value:
            labels[label] = value
        patch = [{"op": "add", "path": "/metadata/labels", "value": labels}]
        with self._store.acting_as(AN_OPERATOR):
            self._store.patch("pods", pod["metadata"]["name"], patch)

    async def _delete_job_without_pod(self) -> None:
        """Delete a job that has a pod as `kubectl delete --cascade=orphan` does.

        The garbage collector acts at once or later. A pod that is created after that keeps its owner.
        """
        with_pod = {job_of(pod) for pod in self._job_pods()}
        jobs = [
            job
            for job in self._store.all("phjobs")
            if "deletionTimestamp" not in job["metadata"] and job["metadata"]["uid"] in with_pod
        ]
        if not jobs:
            return
        job = self._random.choice(jobs)
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        with self._store.acting_as(AN_OPERATOR):
            self._store.begin_orphaning(job)
        await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 2))))
        for pod in self._job_pods():
            if job_of(pod) == uid and "ownerReferences" in pod["metadata"]:
                self._store.orphan_pod(pod["metadata"]["name"])
        await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 3))))
        found = self._store.get("phjobs", name)
        if found and found["metadata"]["uid"] == uid:
            self._store.end_orphaning(name)

    def _job_pods(self) -> list[Object]:
        return [pod for pod in self._store.all("pods") if job_of(pod)]

    # --- nodes and clocks ---

    def _draw_node(self) -> Node:
        return self._random.choice(list(self._nodes.all.values()))

    async def _slow_node(self) -> None:
        self._draw_node().slow = self._random.choice((1.0, 3.0, 10.0))

    async def _set_node_clock(self) -> None:
        """Put the clock of a node forward or back."""
        self._clocks.set(self._draw_node().name, self._random.choice((0, -3600, 3600, -8 * 86400)))

    async def _set_service_clock(self) -> None:
        """Put the clock of a service's machine forward or back."""
        machine = self._random.choice(self._machines)
        self._clocks.set(machine, self._random.choice((0, -1, 1, -20, 20, -3600, 3600)))

    # --- the catalog ---

    async def _edit_quota(self) -> None:
        group = self._random.choice(self._scenario.groups)
        quotas: dict[str, Any] = {"groupQuota": {"gpu": self._random.randint(0, 6)}}
        if group.user_quota:
            quotas["userQuota"] = {"gpu": self._random.randint(0, 4)}
        with self._store.acting_as(AN_ADMINISTRATOR):
            self._store.edit("phgroups", group.name, **quotas)

    async def _edit_catalog(self) -> None:
        """Edit the GPUs of an instance type, the grants of a group, or an image."""
        random, store = self._random, self._store
        kind = random.choice(list(INSTANCE_TYPES))
        with store.acting_as(AN_ADMINISTRATOR):
            match random.choice(("type", "grants", "image")):
                case "type":
                    store.edit("instancetypes", kind, **{f"limits.{GPU}": random.randint(1, 3)})
                case "grants":
                    granted = [name for name in INSTANCE_TYPES if name != kind or random.random() < 0.5]
                    name = random.choice(self._scenario.groups).name
                    store.edit("phgroups", name, instanceTypes=granted)
                case _:
                    store.edit("images", "base-notebook", url=random.choice(("a:1", "b:2")))

    async def _recreate_object(self) -> None:
        """Recreate an object of the catalog, as `kubectl replace --force` does."""
        plural, name = self._random.choice(list(self._original))
        item = self._store.get(plural, name)
        if item is None:
            return
        with self._store.acting_as(AN_ADMINISTRATOR):
            self._store.remove(plural, name)
        await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 3))))
        with self._store.acting_as(AN_ADMINISTRATOR):
            if self._store.get(plural, name) is None:
                self._recreate(plural, item)

    def _recreate(self, plural: str, item: Object) -> None:
        self._store.create(plural, {**item, "metadata": {"name": item["metadata"]["name"]}})

    # --- JupyterHub ---

    async def _run_notebook(self) -> None:
        """Start a Jupyter server for a while. It ignores the quotas."""
        group = self._random.choice(self._scenario.groups)
        self._notebooks += 1
        name = f"jupyter-{self._notebooks}"
        pod = a_notebook(name, group=group.name, user=self._random.choice(USERS), **{GPU: "1"})
        with self._store.acting_as(JUPYTERHUB):
            self._store.create("pods", pod)
            self._store.bind(name, "node-1")
        await asyncio.sleep(self._random.uniform(1, 6))
        with self._store.acting_as(JUPYTERHUB):
            if self._store.get("pods", name):
                self._store.remove("pods", name)

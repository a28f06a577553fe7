"""The nodes of a run: kube-scheduler, the kubelets, and the deletion of a node's pods.

A kubelet starts a pod's container, reports its state, and ends it after a deletion, each after a delay. It
learns of a deletion late, so it may start a container whose pod was just deleted. A lost node continues to
run its containers, and reports nothing. `Nodes.starts` records every start, independently of the reports.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.clocks import Clocks
from tests.simulation.loop import rfc3339
from tests.simulation.store import FINISHED_POD_PHASES, Change, Object, Store, job_of

NODES = ("node-1", "node-2", "node-3")
REJECTED_SHARE = 0.3
"""The share of the pods that never start because their node rejects them."""
SIDECAR_SHARE, SIDECAR_FAILURE_SHARE = 0.5, 0.3
"""The share of the pods with an injected sidecar, and of the sidecars that fail instead of running on."""
MAX_KUBELET_LAG_SECONDS = 0.3
"""The maximum time after a pod's deletion until its kubelet learns of it."""
RUN_FOR, EXIT_CODE, START = (f"dev.primehub.io/{name}" for name in ("run-for", "exit-code", "start"))


@dataclass(frozen=True)
class Start:
    """A start of a job's command in a container."""

    at: float
    job: str
    """The uid of the PhJob."""
    pod: str


@dataclass
class Node:
    """A machine that runs pods."""

    name: str
    slow: float = 1.0
    """The factor by which containers start more slowly than usual."""
    cordoned: bool = False
    exists: bool = True
    connected: asyncio.Event = field(default_factory=asyncio.Event)


class Nodes:
    """All nodes of a cluster."""

    def __init__(self, store: Store, random: Random, clocks: Clocks, *, sidecars: bool = False) -> None:
        """`sidecars`: a webhook injects a container into many pods."""
        self._store = store
        self._sidecars = sidecars
        self._random = random
        self._clocks = clocks
        self._tasks: set[asyncio.Task[None]] = set()
        self._deleted: dict[str, asyncio.Event] = {}
        """For each pod, by uid: set when its kubelet learns of the deletion."""
        self.starts: list[Start] = []
        """Every start of a command, whether its kubelet has reported it or not."""
        self.ends: dict[str, float] = {}
        """When the command of each pod ended, by the uid of the pod."""
        self.all = {name: Node(name) for name in NODES}

    def begin(self) -> None:
        """Create the nodes, and start kube-scheduler and the kubelets."""
        for node in self.all.values():
            node.connected.set()
            self._create(node.name)
        self._spawn(self._watch("pods", self._on_pod))

    def end(self) -> None:
        """Stop kube-scheduler and the kubelets."""
        for task in self._tasks:
            task.cancel()

    # --- nodes ---

    async def lose(self, node: Node, seconds: float) -> None:
        """Disconnect a node for so many seconds. Its Ready condition follows after a while."""
        if not node.connected.is_set() or not node.exists:
            return
        node.connected.clear()
        until_unknown = min(seconds, self._random.uniform(2, 5))
        await asyncio.sleep(until_unknown)
        self._set_ready(node.name, "Unknown")
        await asyncio.sleep(seconds - until_unknown)
        self._set_ready(node.name, "True")
        node.connected.set()

    async def remove(self, node: Node, seconds: float) -> None:
        """Delete a node's object, as an autoscaler does. A new machine gets its name later."""
        if not node.exists or not node.connected.is_set():
            return
        node.exists = False
        node.connected.clear()
        self._store.remove("nodes", node.name)
        await asyncio.sleep(self._random.uniform(0.2, 2))
        for pod in self._pods_on(node.name):
            self._delete_orphan(pod)
        await asyncio.sleep(seconds)
        self._create(node.name)
        node.exists = True
        node.connected.set()

    async def drain(self, node: Node, seconds: float) -> None:
        """Cordon a node, evict its pods, and uncordon it after so many seconds."""
        node.cordoned = True
        with self._store.acting_as("an operator"):
            for pod in self._pods_on(node.name):
                if pod["status"]["phase"] not in FINISHED_POD_PHASES:
                    self.evict(pod)
        await asyncio.sleep(seconds)
        node.cordoned = False

    def evict(self, pod: Object) -> None:
        """Delete a pod, with the condition that an eviction sets."""
        metadata = pod["metadata"]
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        status = {**pod["status"], "conditions": [condition]}
        self._store.set_status("pods", metadata["name"], status)
        self._store.delete("pods", metadata["name"], uid=metadata["uid"])

    def _delete_orphan(self, pod: Object) -> None:
        """Delete a pod whose node was deleted, as the pod garbage collector does."""
        name = pod["metadata"]["name"]
        if pod["status"]["phase"] not in FINISHED_POD_PHASES:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
            self._store.set_status(
                "pods", name, {**pod["status"], "phase": "Failed", "conditions": [condition]}
            )
        self._store.remove("pods", name)

    def _pods_on(self, node: str) -> list[Object]:
        return [pod for pod in self._store.all("pods") if pod["spec"].get("nodeName") == node]

    def _create(self, name: str) -> None:
        self._store.create("nodes", {"metadata": {"name": name}})
        self._set_ready(name, "True")

    def _set_ready(self, name: str, ready: str) -> None:
        since = {"lastTransitionTime": rfc3339(self._now())}
        self._store.set_status("nodes", name, {"conditions": [{"type": "Ready", "status": ready, **since}]})

    # --- pods ---

    def _on_pod(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if not job_of(change.object):
            return
        uid, name = metadata["uid"], metadata["name"]
        if change.gone or "deletionTimestamp" in metadata:
            self._spawn(self._report_deletion(change.object))
        ungated = not is_gated(change.object)
        if ungated and not change.gone and (change.before is None or is_gated(change.before)):
            self._spawn(self._run_pod(name, uid))

    async def _report_deletion(self, pod: Object) -> None:
        """Report a pod's deletion to its kubelet late, once its node is connected."""
        event = self._deleted.get(pod["metadata"]["uid"])
        if event:
            await asyncio.sleep(self._random.uniform(0, MAX_KUBELET_LAG_SECONDS))
            await self.all[pod["spec"]["nodeName"]].connected.wait()
            event.set()

    async def _run_pod(self, name: str, uid: str) -> None:
        """Bind the pod to a node, run its command, and delete the pod when it has ended."""
        node = await self._bind(name, uid)
        pod = self._pod(name, uid)
        if node is None or pod is None:
            return
        deleted = self._deleted[uid] = asyncio.Event()
        if "deletionTimestamp" in pod["metadata"]:
            deleted.set()
        annotations = pod["metadata"].get("annotations") or {}
        if annotations.get(START) == "never":
            await self._fail_to_start(node, name, uid)
        elif not await self._wait_for(deleted, self._draw_startup_time() * node.slow):
            await self._run_command(
                node, pod, float(annotations.get(RUN_FOR, "1")), int(annotations.get(EXIT_CODE, "0"))
            )
        await deleted.wait()
        await self._remove(node, name, uid)

    async def _bind(self, name: str, uid: str) -> Node | None:
        """Bind the pod to a node, as kube-scheduler does. Returns None if it is deleted before."""
        await asyncio.sleep(self._random.uniform(0.05, 1))
        while (pod := self._pod(name, uid)) and "deletionTimestamp" not in pod["metadata"]:
            fit = [n for n in self.all.values() if n.exists and n.connected.is_set() and not n.cordoned]
            if fit:
                node = self._random.choice(fit)
                self._store.bind(name, node.name)
                return node
            await asyncio.sleep(0.5)
        return None

    def _draw_startup_time(self) -> float:
        return self._random.choice((self._random.uniform(0.05, 1), self._random.uniform(1, 12)))

    async def _fail_to_start(self, node: Node, name: str, uid: str) -> None:
        if self._random.random() < REJECTED_SHARE:
            await self._report(node, name, uid, {"phase": "Failed", "reason": "OutOfcpu"})

    async def _run_command(self, node: Node, pod: Object, seconds: float, code: int) -> None:
        """Run the command, until so many seconds have passed or the pod is deleted."""
        metadata = pod["metadata"]
        name, uid, deleted = metadata["name"], metadata["uid"], self._deleted[metadata["uid"]]
        self.starts.append(Start(self._now(), job_of(pod), uid))
        started = rfc3339(self._clocks.now(node.name))
        if seconds:
            running = self._report(node, name, uid, _status("Running", {"running": {"startedAt": started}}))
            self._spawn(running)
            if await self._wait_for(deleted, seconds):
                await asyncio.sleep(self._random.uniform(0.01, 2))
                code = 0 if self._random.random() < 0.1 else 143
        self.ends[uid] = self._now()
        terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "startedAt": started,
            "finishedAt": rfc3339(self._clocks.now(node.name)),
        }
        phase = "Succeeded" if code == 0 else "Failed"
        if self._sidecars and self._random.random() < SIDECAR_SHARE:
            phase = await self._run_sidecar(node, name, uid, _status("Running", {"terminated": terminated}))
        await self._report(node, name, uid, _status(phase, {"terminated": terminated}))

    async def _run_sidecar(self, node: Node, name: str, uid: str, status: Object) -> str:
        """Keep the pod running after its command, until it is deleted or the sidecar fails.

        Returns the phase in which the pod ends.
        """
        proxy = {"name": "proxy", "state": {"running": {}}}
        others = {**status, "containerStatuses": [*status["containerStatuses"], proxy]}
        await self._report(node, name, uid, others)
        if self._random.random() < SIDECAR_FAILURE_SHARE:
            await self._wait_for(self._deleted[uid], self._random.uniform(0, 5))
        else:
            await self._deleted[uid].wait()
            await asyncio.sleep(self._random.uniform(0, 3))
        return "Failed"

    async def _remove(self, node: Node, name: str, uid: str) -> None:
        """Report that the pod has ended, if that is not reported yet, and remove the pod."""
        await asyncio.sleep(self._random.uniform(0.05, 3))
        await node.connected.wait()
        pod = self._pod(name, uid)
        if pod and pod["status"]["phase"] not in FINISHED_POD_PHASES:
            # Its container never started: status_manager.go, TerminatePod.
            unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
            await self._report(node, name, uid, _status("Failed", {"terminated": unknown}))
            await asyncio.sleep(self._random.uniform(0.01, 0.5))
        if self._pod(name, uid):
            self._store.remove("pods", name)

    async def _report(self, node: Node, name: str, uid: str, status: Object) -> None:
        """Write a pod's status once the node is connected, unless the pod is finished."""
        await node.connected.wait()
        pod = self._pod(name, uid)
        if pod and pod["status"]["phase"] not in FINISHED_POD_PHASES:
            self._store.set_status("pods", name, {**pod["status"], **status})

    # --- helpers ---

    async def _wait_for(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for an event for at most so many seconds. Returns whether it was set."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _pod(self, name: str, uid: str) -> Object | None:
        pod = self._store.get("pods", name)
        return pod if pod and pod["metadata"]["uid"] == uid else None

    async def _watch(self, plural: str, observe: Callable[[Change], None]) -> None:
        """Call `observe` with every change of the kind, after a short delay."""
        changes, seen = self._store.changes_of[plural], 0
        while True:
            while seen < len(changes):
                observe(changes[seen])
                seen += 1
            await self._store.wait_for_change(plural)
            await asyncio.sleep(self._random.uniform(0, 0.05))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def is_gated(pod: Object) -> bool:
    """Return whether a scheduling gate keeps the pod from a node."""
    return bool(pod["spec"].get("schedulingGates"))


def _status(phase: str, state: Object) -> Object:
    return {"phase": phase, "containerStatuses": [{"name": "main", "state": state}]}

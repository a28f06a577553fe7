"""Faults that third parties cause: they delete jobs' pods and nodes, and revoke the services' rights.

Third parties are people, `kubectl drain`, PodGC and RBAC's administrators. They use the API server itself,
not the links that faults break. The API server may still be starting after an earlier fault. A request
without which there would be no fault is therefore repeated until it succeeds. A failed deletion of a pod is
ignored.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

from tests.faults.breakable_stack import CAPACITY, NODES, BreakableStack, Injector
from tests.support.api import Api, ApiError
from tests.support.cluster import NAMESPACE, Object
from tests.support.waiting import eventually

from dev import kwok, rights
from dev.errors import DevError

JOB_PODS = "app=primehub-job"
"""The label selector of jobs' pods."""
PAUSE_SECONDS = 0.2
"""The time between two requests."""
MAX_DRAIN_ROUNDS = 10
"""The number of attempts to drain nodes until enough pods are evicted."""
MIN_EVICTIONS = 3
"""The number of evicted pods that are enough. Of one, pod-manager may have requested the deletion before."""
COLLECTED_SHARE = 0.5
"""The share of the finished pods that are removed."""
ORPHANED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByPodGC",
    "message": "PodGC: node no longer exists",
}
"""The condition that PodGC adds to a pod whose node was deleted (gc_controller.go, gcOrphaned)."""


def drain_nodes(seconds: float) -> Injector:
    """Return an injector that drains one node after the other, as for an upgrade.

    It cordons the node, evicts its jobs' pods and uncordons it, as `kubectl drain
    --pod-selector=app=primehub-job` does. New pods start on the other nodes. If the nodes had too few pods to
    evict, all are drained again.
    """

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        api, evicted = _api(target), 0
        for _ in range(MAX_DRAIN_ROUNDS):
            evicted += sum(_drain(api, f"kwok-{number}", seconds / NODES) for number in range(NODES))
            if evicted >= MIN_EVICTIONS:
                break
        yield

    return inject


def _drain(api: Api, node: str, seconds: float) -> int:
    """Drain a node. Returns the number of evicted pods."""
    evicted = 0
    _repeat_until_done(lambda: _cordon(api, node, on=True))
    try:
        for _ in _rounds(seconds):
            evicted += sum(_evict(api, pod) for pod in _pods(api, node))
    finally:
        _repeat_until_done(lambda: _cordon(api, node, on=False))
    return evicted


def delete_node(seconds: float) -> Injector:
    """Return an injector that deletes a node, and then its pods as PodGC does.

    The node is created again at the end. The real PodGC waits until a node has been missing for 40 s.
    """

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        api = _api(target)
        node = _node_without_notebooks(api)
        _repeat_until_done(lambda: api.delete("Node", node))
        try:
            for _ in _rounds(seconds):
                for pod in _pods(api, node):
                    _collect(api, pod)
            yield
        finally:
            _repeat_until_done(lambda: kwok.create_nodes(target.stack.kubectl, NODES, CAPACITY))

    return inject


def collect_finished_pods(seconds: float) -> Injector:
    """Return an injector that removes some pods as soon as they finish, as PodGC does if there are many."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        api, rng = _api(target), random.Random(7)  # noqa: S311 - a fault
        finished: set[str] = set()
        for pod in _changes(api, seconds):
            if _has_finished(pod) and pod["metadata"]["uid"] not in finished:
                finished.add(pod["metadata"]["uid"])
                if rng.random() < COLLECTED_SHARE:
                    _collect(api, pod)
        yield

    return inject


def delete_pods(seconds: float, *, forced: bool) -> Injector:
    """Return an injector that deletes random pods with `kubectl delete pod`, `forced` or not.

    The pods are starting, running or have just finished.
    """

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        api, rng = _api(target), random.Random(7)  # noqa: S311 - a fault
        for _ in _rounds(seconds):
            if pod := _choose_pod(_pods(api), rng):
                _delete(api, pod, forced=forced)
        yield

    return inject


def revoke_rights(service: str, seconds: float) -> Injector:
    """Return an injector that revokes a service's rights in the namespace, and grants them at the end."""

    @contextmanager
    def inject(target: BreakableStack) -> Iterator[None]:
        kubectl = target.stack.kubectl
        binding = ("delete", "rolebinding", rights.account(service), "--ignore-not-found")
        _repeat_until_done(lambda: kubectl(f"--namespace={NAMESPACE}", *binding))
        try:
            time.sleep(seconds)
            yield
        finally:
            _repeat_until_done(lambda: rights.grant(kubectl))

    return inject


def _rounds(seconds: float) -> Iterator[None]:
    """Yield at intervals of `PAUSE_SECONDS` for a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(PAUSE_SECONDS)


def _changes(api: Api, seconds: float) -> Iterator[Object]:
    """Yield each changed pod of a job for a time, as a watch reports it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(PAUSE_SECONDS)  # Without this, the loop would be busy while the API server is down.
        with suppress(ApiError, OSError, HTTPException, ValueError):
            revision = api.list("Pod", limit="1")["metadata"]["resourceVersion"]
            with api.watch("Pod", revision, labelSelector=JOB_PODS) as watch:
                timer = threading.Timer(left, watch.stop)
                timer.start()
                try:
                    yield from (event["object"] for event in watch if event["type"] == "MODIFIED")
                finally:
                    timer.cancel()


def _repeat_until_done(request: Callable[[], object]) -> None:
    """Repeat a request until it succeeds."""

    def done() -> bool:
        try:
            request()
        except (ApiError, DevError, OSError):
            return False
        return True

    eventually(done, "a third party's request succeeds")


def _api(target: BreakableStack) -> Api:
    return Api(target.stack.kubeconfig, NAMESPACE)


def _pods(api: Api, node: str = "") -> list[Object]:
    """Return the jobs' pods that are not being deleted, of one node or of all.

    The list is empty if the API server does not answer.
    """
    query = {"fieldSelector": f"spec.nodeName={node}"} if node else {}
    with suppress(ApiError, OSError):
        pods = api.list("Pod", labelSelector=JOB_PODS, **query)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return []


def _node_without_notebooks(api: Api) -> str:
    """Return a node without notebooks. The workload needs its notebook until the end."""

    def found() -> str | None:
        with suppress(ApiError, OSError):
            nodes = {_name(node) for node in api.list("Node")["items"]}
            notebooks = api.list("Pod", labelSelector="app=jupyterhub")["items"]
            return min(nodes - {pod["spec"].get("nodeName") for pod in notebooks}, default=None)
        return None

    return eventually(found, "a node without notebooks exists")


def _cordon(api: Api, node: str, *, on: bool) -> None:
    api.merge_patch("Node", node, {"spec": {"unschedulable": on or None}})


def _evict(api: Api, pod: Object) -> bool:
    """Evict a pod. Returns whether the API server accepted it."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": _name(pod)}}
    with suppress(ApiError, OSError):  # The pod may be gone. Otherwise the next round evicts it.
        api.create_subresource("Pod", _name(pod), "eviction", eviction)
        return True
    return False


def _collect(api: Api, pod: Object) -> None:
    """Remove a pod as PodGC does: mark it as Failed unless it has finished, and delete it by force."""
    with suppress(ApiError, OSError):
        if not _has_finished(pod):
            conditions = [*pod["status"].get("conditions", ()), ORPHANED]
            status = {"phase": "Failed", "conditions": conditions}
            api.merge_patch("Pod", _name(pod), {"status": status}, subresource="status")
        _delete(api, pod, forced=True)


def _delete(api: Api, pod: Object, *, forced: bool) -> None:
    with suppress(ApiError, OSError):
        api.delete("Pod", _name(pod), **({"gracePeriodSeconds": "0"} if forced else {}))


def _choose_pod(pods: list[Object], rng: random.Random) -> Object | None:
    """Return a random pod; None if there is none.

    Each stage is equally likely. Of the finished pods, only the one that changed last is considered.
    """
    stages = [
        [pod for pod in pods if pod["status"]["phase"] == "Pending"],
        [pod for pod in pods if pod["status"]["phase"] == "Running"],
        sorted(filter(_has_finished, pods), key=lambda pod: int(pod["metadata"]["resourceVersion"]))[-1:],
    ]
    occupied = [stage for stage in stages if stage]
    return rng.choice(rng.choice(occupied)) if occupied else None


def _has_finished(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])

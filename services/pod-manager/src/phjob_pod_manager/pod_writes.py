"""The writes to a job's pod: remove the gate, hold, release and delete. Also its message, for its user.

Each write tests that the pod is the one that the step was planned for. If it is not, the pod's current state
goes into the store, and the next step is planned from that.
"""

from collections.abc import Sequence
from typing import Any, Final

import structlog

from phjob_core.api import GATE, REQUEUE_FINALIZER, Object
from phjob_core.errors import RejectedError
from phjob_core.kinds import PODS
from phjob_core.messages import PodSeen
from phjob_core.pod_reading import PodReading, Quotes
from phjob_core.projection import gate_index, pod_message, project_pod
from phjob_kube.port import Kube
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.progress import Progress, WriteRejectedError
from phjob_pod_manager.status_patches import Patch
from phjob_pod_manager.store import JobStore

STOP_FIELD_TRACKING: Final[dict[str, Any]] = {"op": "add", "path": "/metadata/managedFields", "value": [{}]}
"""The operation after which the API server no longer tracks who set which field of a pod.

Nobody applies to the pods of jobs. Without the tracking, each later write to the pod takes about half the CPU
of the API server, and the pod is 40 % smaller (docs/performance.md). Most of those writes come from kubelets
and kube-scheduler. Source: Kubernetes, Server-Side Apply, "Clearing managedFields".
"""

_log = structlog.get_logger()


def remove_gate(pod_uid: str, index: int = 0) -> Patch:
    """Return the patch that removes PhJob's gate, the one at `index`, from exactly this pod."""
    path = f"/spec/schedulingGates/{index}"
    return [
        # Without the test of the uid, a late write would start a pod that no job names.
        {"op": "test", "path": "/metadata/uid", "value": pod_uid},
        {"op": "test", "path": f"{path}/name", "value": GATE},
        {"op": "remove", "path": path},
        STOP_FIELD_TRACKING,
    ]


class PodWriter:
    """Writes to the pods of jobs, and records each response in the store."""

    def __init__(self, kube: Kube, retrier: ApiRetrier, store: JobStore) -> None:
        self._kube = kube
        self._retrier = retrier
        self._store = store

    async def ungate(self, pod: PodSeen) -> Progress:
        """Remove PhJob's scheduling gate from exactly this pod.

        Returns REPLAN if the pod's cached state has changed.

        Raises:
            WriteRejectedError: the gate cannot be removed, and the pod is unchanged.

        """
        index = 0  # Admission plugins with gates of their own may have moved it.
        while True:
            try:
                answer = await self._patch(pod, remove_gate(pod.uid, index), "remove gate")
            except RejectedError as error:
                found = await self._find(pod)
                if found is None:
                    return Progress.WAIT  # The watch will report how it ended.
                current = gate_index(found)
                if current is None:
                    return self._record(found)
                if current == index:
                    msg = f"pod {pod.name}: the API server has rejected the removal of the gate: {error}"
                    raise WriteRejectedError(msg) from error
                index = current
            else:
                _log.info("gate_removed", pod=pod.uid, fence=pod.fence)
                return self._record(answer)

    async def hold(self, pod: PodSeen) -> Progress:
        """Add PhJob's finalizer to the pod, unless the pod has changed.

        Returns REPLAN if the pod's cached state has changed.

        Raises:
            WriteRejectedError: the finalizer cannot be added, and the pod is unchanged.

        """
        found = await self._find(pod)
        if found is None:
            return Progress.WAIT
        if int(found["metadata"]["resourceVersion"]) != pod.resource_version:
            return self._record(found)
        finalizers = [*(found["metadata"].get("finalizers") or ()), REQUEUE_FINALIZER]
        return await self._write_finalizers(found, finalizers, "hold pod")

    async def release(self, pod: PodSeen) -> Progress:
        """Remove PhJob's finalizer from the pod.

        Returns REPLAN if the pod's cached state has changed.

        Raises:
            WriteRejectedError: the finalizer cannot be removed, and the pod is unchanged.

        """
        found = await self._find(pod)
        if found is None:
            return Progress.WAIT
        before = found["metadata"].get("finalizers")
        finalizers = [name for name in before or () if name != REQUEUE_FINALIZER]
        if finalizers == before:
            return self._record(found)
        return await self._write_finalizers(found, finalizers, "release pod")

    async def delete(self, pod: PodSeen, *, revision: int | None = None, force: bool = False) -> Progress:
        """Delete the pod, with `revision` only at that resourceVersion.

        With `force`, Kubernetes does not wait for the node to report the pod's end. Returns REPLAN if the pod
        is not deleted, because it has changed.

        Raises:
            WriteRejectedError: the pod cannot be deleted, and it is unchanged.

        """
        is_deleted = await self._retrier.retry_until_definite(
            lambda: self._kube.delete(PODS.resource, pod.name, uid=pod.uid, revision=revision, force=force),
            "delete pod",
        )
        if is_deleted:
            _log.info("pod_deleted", pod=pod.uid, force=force)
            return Progress.WAIT
        found = await self._find(pod)
        if found is None:
            return Progress.WAIT
        if revision in (None, int(found["metadata"]["resourceVersion"])):
            raise WriteRejectedError(f"pod {pod.name}: the API server has rejected the deletion")
        # The watch omits changes that do not matter to a job. Without this, the revision would never match.
        return self._record(found)

    async def read_message(self, pod: PodSeen) -> str:
        """Return the message of the pod's state; empty if the pod is gone or has none."""
        found = await self._find_for_message(pod)
        return pod_message(found).strip() if found else ""

    async def read_quotes(self, pod: PodSeen) -> Quotes:
        """Return what the job's message quotes of the pod; nothing if the pod is gone."""
        found = await self._find_for_message(pod)
        return PodReading(found).quotes if found else Quotes()

    async def _write_finalizers(self, found: Object, finalizers: Sequence[str], operation: str) -> Progress:
        """Replace the finalizers of a pod that was found just now."""
        seen = project_pod(found)
        patch: Patch = [
            {"op": "test", "path": "/metadata/uid", "value": seen.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": str(seen.resource_version)},
            {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
        ]
        try:
            answer = await self._patch(seen, patch, operation)
        except RejectedError as error:
            current = await self._find(seen)
            if current is None:
                return Progress.WAIT
            if current["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]:
                msg = f"pod {seen.name}: the API server has rejected {operation!r}: {error}"
                raise WriteRejectedError(msg) from error
            self._record(current)
        else:
            self._record(answer)
        return Progress.REPLAN

    async def _find_for_message(self, pod: PodSeen) -> Object | None:
        try:
            return await self._find(pod)
        except RejectedError:  # The message is for people. Without it, the job still has to end.
            return None

    async def _find(self, pod: PodSeen) -> Object | None:
        """Return the pod from the API server; None if it is gone."""
        found = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PODS.resource, pod.name), "get pod"
        )
        return found if found is not None and found["metadata"]["uid"] == pod.uid else None

    async def _patch(self, pod: PodSeen, patch: Patch, operation: str) -> Object:
        return await self._retrier.retry_until_definite(
            lambda: self._kube.patch(PODS.resource, pod.name, patch), operation
        )

    def _record(self, answer: Object) -> Progress:
        """Record the API server's answer. Returns REPLAN if the pod has changed."""
        return Progress.REPLAN if self._store.upsert_pod(project_pod(answer)) else Progress.WAIT

"""The writes to gated pods of the pool that are no job's: admit, settle and explain (spec.md, Q14).

The pod itself has the token of its admission, in its annotation `primehub.io/fence`. An admission is one
write: it sets the token, removes the gate, and tests the resourceVersion at which the pod had the expected
token. So no earlier admission can take effect after a pod-manager has settled it by another token.
"""

import structlog

from phjob_core.api import FENCE_ANNOTATION, Object
from phjob_core.errors import RejectedError
from phjob_core.kinds import PODS
from phjob_core.messages import AdmitPod, ExplainPod
from phjob_core.projection import gate_index
from phjob_kube.port import Kube
from phjob_pod_manager import metrics
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.command_writes import ADMISSION_RETRY_SECONDS, MAX_ADMISSION_ATTEMPTS, SettledError
from phjob_pod_manager.events import EventRecorder
from phjob_pod_manager.status_patches import Patch
from phjob_runtime.clock import Clock

_log = structlog.get_logger()


class GatedPodWriter:
    """Writes the scheduler's commands to gated pods, one command at a time for each group."""

    def __init__(self, kube: Kube, clock: Clock, retrier: ApiRetrier, events: EventRecorder) -> None:
        self._kube = kube
        self._clock = clock
        self._retrier = retrier
        self._events = events

    async def admit(self, command: AdmitPod) -> None:
        """Remove the gate of the pod, unless the pod is gone or has lost it already.

        Raises:
            SettledError: another pod-manager has settled the command.

        """
        for _ in range(MAX_ADMISSION_ATTEMPTS):
            found = await self._find(command)
            if found is None:
                return
            if _fence_of(found) != command.fence:
                raise SettledError(command.name)
            try:
                await self._patch(command, admission(found, command.token), "admit pod")
            except RejectedError as error:  # Somebody has edited the pod, or a policy protects it.
                metrics.write_rejected(command.kind)
                _log.info("command_rejected", command=command.kind, error=str(error))
                await self._clock.sleep(ADMISSION_RETRY_SECONDS)
            else:
                _log.info("pod_admitted", group=command.group, fence=command.token)
                return
        _log.error("admission_given_up", fence=command.token)

    async def settle(self, command: AdmitPod, token: str) -> None:
        """Give the pod another token, so that every earlier attempt at this admission fails.

        Raises:
            RejectedError: the pod is gone, or a policy protects it.

        """
        found = await self._find(command)
        if found is not None:
            await self._patch(command, [_test_uid(found), _set_fence(found, token)], "settle")
            _log.info("admission_settled", fence=token, settled=command.token)

    def explain(self, command: ExplainPod) -> None:
        """Write an Event about the pod that says why it waits."""
        self._events.record_of_pod(command.uid, command.name, command.reason, command.message)

    async def _find(self, command: AdmitPod) -> Object | None:
        """Return the pod from the API server; None if it is gone, or has lost its gate."""
        found = await self._retrier.retry_until_definite(
            lambda: self._kube.get(PODS.resource, command.name), "get pod"
        )
        if found is None or found["metadata"]["uid"] != command.uid or gate_index(found) is None:
            return None
        return found

    async def _patch(self, command: AdmitPod, patch: Patch, operation: str) -> None:
        await self._retrier.retry_until_definite(
            lambda: self._kube.patch(PODS.resource, command.name, patch), operation
        )


def admission(pod: Object, token: str) -> Patch:
    """Return the patch that gives the pod the token, and removes its gate, if it has not changed."""
    path = f"/spec/schedulingGates/{gate_index(pod)}"
    revision = pod["metadata"]["resourceVersion"]
    return [
        _test_uid(pod),
        {"op": "test", "path": "/metadata/resourceVersion", "value": revision},
        _set_fence(pod, token),
        {"op": "remove", "path": path},
    ]


def _test_uid(pod: Object) -> dict[str, object]:
    return {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]}


def _set_fence(pod: Object, token: str) -> dict[str, object]:
    """Return the operation that sets the pod's token. A pod may have no annotations yet."""
    if pod["metadata"].get("annotations"):
        escaped = FENCE_ANNOTATION.replace("/", "~1")
        return {"op": "add", "path": f"/metadata/annotations/{escaped}", "value": token}
    return {"op": "add", "path": "/metadata/annotations", "value": {FENCE_ANNOTATION: token}}


def _fence_of(pod: Object) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION, ""))

"""A small executor of the planner's steps for one job and its pod, without a cluster."""

from typing import Any

from tests.fakes.facts import a_job
from tests.fakes.objects import a_pod_object

from phjob_core.api import REQUEUE_FINALIZER, Phase
from phjob_core.lifecycle import Event, Transition, transition
from phjob_core.messages import JobSeen
from phjob_core.planner import JobState, PendingCommand, next_step
from phjob_core.projection import project_pod
from phjob_core.steps import ApplyEvent, DeletePod, HoldPod, ReleasePod, Step

_MAX_STEPS = 20
"""More than any job needs for one change of its pod."""


class SmallExecutor:
    """A job in Preparing and its pod, which has a node. Each change is followed by all steps that are due."""

    def __init__(self) -> None:
        self.job: JobSeen = a_job(phase=Phase.PREPARING, fence="s#1", pod_uid="uid-job-1")
        self.pod: dict[str, Any] | None = a_pod_object()
        self.pod["metadata"] |= {"finalizers": []}
        self.pod["spec"] |= {"nodeName": "node-1"}
        self._command: PendingCommand | None = None
        self._never_started = False

    def observe(self, status: Any, metadata: dict[str, Any]) -> None:
        """Report a new status of the pod, and that its deletion was requested, if it was."""
        if self.pod is None:
            return
        self.pod["status"] = status
        if "deletionTimestamp" not in self.pod["metadata"]:
            self.pod["metadata"] |= metadata
        self._execute()

    def time_out_start(self) -> None:
        """Let the janitor send the command for a pod that did not start in time."""
        if self.job.phase is Phase.PREPARING:
            self._command = PendingCommand(Event.START_TIMEOUT, "job-1", "s#1", "too late")
            self._execute()

    def remove_pod(self) -> None:
        """Let Kubernetes remove the pod, whether it has a finalizer or not."""
        if self.pod is not None:
            self._never_started = project_pod(self.pod).never_started
            self.pod = None
        self._execute()

    def _execute(self) -> None:
        for _ in range(_MAX_STEPS):
            if self.job.phase is Phase.PENDING and self.pod is None:
                return
            pod = project_pod(self.pod) if self.pod else None
            step = next_step(JobState(self.job, pod, self._command, self._never_started))
            if step is None or not self._take(step):
                return
        msg = f"the job takes a step again and again: {step}"
        raise AssertionError(msg)

    def _take(self, step: Step) -> bool:
        """Take one step. Returns whether another one may follow."""
        match step:
            case ApplyEvent(event=event):
                change = transition(self.job.phase, event)
                assert isinstance(change, Transition), step
                update = {"phase": change.phase, "reason": change.reason or self.job.reason}
                self.job = self.job.model_copy(
                    update={**update, "pod_uid": "" if change.phase is Phase.PENDING else self.job.pod_uid}
                )
                self._command = None
                return True
            case HoldPod():
                self._metadata["finalizers"] = [REQUEUE_FINALIZER]
                return True
            case ReleasePod():
                self._metadata["finalizers"] = []
                return True
            case DeletePod():
                self._metadata["deletionTimestamp"] = "2026-01-01T00:05:20Z"
                return True
        return False

    @property
    def _metadata(self) -> dict[str, Any]:
        assert self.pod is not None
        metadata: dict[str, Any] = self.pod["metadata"]
        return metadata

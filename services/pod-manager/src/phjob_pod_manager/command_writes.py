"""The writes of the scheduler's commands: admit, settle, reject, and set the pending reason.

Each is a compare-and-swap on the job's status, so a command for a job that has changed does nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from phjob_core.api import Object, Phase, Reason
from phjob_core.errors import PermanentError, RejectedError
from phjob_core.kinds import PHJOBS
from phjob_core.lifecycle import Ignored, transition
from phjob_core.messages import Admit, Command, Reject, SetPendingReason
from phjob_core.projection import project_job, project_job_with_message
from phjob_core.steps import ApplyEvent
from phjob_kube.port import Kube
from phjob_pod_manager import metrics, status_patches
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.events import EventRecorder
from phjob_pod_manager.pod_creator import AdmissionOverError, CreatedPod, PodCreationError, PodCreator
from phjob_pod_manager.reconciler import Reconciler
from phjob_pod_manager.status_patches import Patch
from phjob_runtime.clock import Clock

MAX_ADMISSION_ATTEMPTS = 5
"""The number of attempts to write an admission that the API server rejects although the job is unchanged."""
ADMISSION_RETRY_SECONDS = 1.0
"""The pause between two of these attempts."""

_log = structlog.get_logger()


class SettledError(PermanentError):
    """Another pod-manager has settled the command, so it has taken over, and this session is over."""


class CommandWriter:
    """Writes the scheduler's commands to the jobs, one command at a time for each group."""

    def __init__(  # noqa: PLR0913 - everything that it is wired from
        self,
        kube: Kube,
        clock: Clock,
        retrier: ApiRetrier,
        pods: PodCreator,
        reconciler: Reconciler,
        events: EventRecorder,
        *,
        max_requeues: int = 0,
    ) -> None:
        """`max_requeues` caps the requeues of every job; 0: no cap."""
        self._kube = kube
        self._clock = clock
        self._retrier = retrier
        self._pods = pods
        self._reconciler = reconciler
        self._events = events
        self._max_requeues = max_requeues

    async def create_pod(self, command: Admit) -> CreatedPod:
        """Create the gated pod of an admission, as `PodCreator.create`."""
        return await self._pods.create(command)

    async def settle(self, command: Admit, token: str) -> None:
        """Replace the job's token, so that every earlier attempt at this admission fails.

        Raises:
            RejectedError: the job has changed.

        """
        await self._patch(command.name, status_patches.settle(command, token), "settle")
        _log.info("admission_settled", fence=token, settled=command.token)

    async def admit(self, command: Admit, creation: asyncio.Task[CreatedPod]) -> None:
        """Admit the job with the pod that `creation` has created.

        If the pod could not be created, write that instead.

        Raises:
            SettledError: another pod-manager has settled the command.

        """
        try:
            created = creation.result()
            while not self._reconciler.on_pod_created(created.pod):  # Another program has deleted it.
                created = await self._pods.create(command)
        except AdmissionOverError as error:
            self.record_rejection(command, error)
            if _is_settled(command, error.job):
                raise SettledError(command.name) from error
            return
        except PodCreationError as error:
            await self._write_creation_failure(command, error)
            return
        pod_uid = created.pod.uid
        admitted = await self._compare_and_swap(
            command, lambda now: status_patches.admit(command, pod_uid, now, created.observed), "admit"
        )
        if admitted is None:
            return
        self._reconciler.on_admitted(admitted)
        metrics.transition_written(command.group, Phase.PREPARING, Reason.ADMITTED)
        metrics.job_admitted(command.group, self._clock.now() - created.observed.created)
        _log.info("job_admitted", group=command.group, pod=pod_uid, fence=command.token)

    async def reject(self, command: Reject) -> None:
        """Fail a job that can never run.

        Raises:
            RejectedError: the job has changed.

        """
        await self._patch(command.name, status_patches.reject(command, self._clock.now()), "reject")
        metrics.transition_written(command.group, Phase.FAILED, command.reason)
        self._reconciler.on_rejected(command.uid)
        self._events.record(command.uid, command.name, command.reason, command.message)
        _log.info("job_rejected", reason=command.reason)

    async def set_pending_reason(self, command: SetPendingReason) -> None:
        """Write why a job waits.

        Raises:
            RejectedError: the job has changed.

        """
        patch = status_patches.set_pending_reason(command, self._clock.now())
        await self._patch(command.name, patch, "set pending reason")

    def record_rejection(self, command: Command, error: Exception) -> None:
        """Log and count a command that is not written, because its job has changed."""
        metrics.write_rejected(command.kind)
        _log.info("command_rejected", command=command.kind, error=str(error))

    async def _write_creation_failure(self, command: Admit, failure: PodCreationError) -> None:
        """Write to the job that its pod cannot be created.

        Raises:
            SettledError: another pod-manager has settled the command.

        """
        found = await self._pods.find_job(command)
        if found is None:
            return
        step, change = ApplyEvent(failure.event, str(failure)), transition(Phase.PENDING, failure.event)
        assert not isinstance(change, Ignored)  # noqa: S101 - the table has every event of PodCreationError
        seen = project_job(found)
        written = await self._compare_and_swap(
            command,
            lambda now: [
                *status_patches.fail_admission(command, seen, step, change, now, self._max_requeues),
                *status_patches.set_overhead(failure.overhead),
            ],
            "fail admission",
        )
        if written is None:
            return
        outcome = project_job_with_message(written)
        metrics.transition_written(command.group, outcome.phase, outcome.reason)
        self._events.record(command.uid, command.name, outcome.reason, outcome.message)
        # Without the message, because the API server quotes values of the pod in it.
        _log.info("admission_failed", reason=outcome.reason, fence=command.token)

    async def _compare_and_swap(
        self, command: Admit, patch: Callable[[datetime], Patch], operation: str
    ) -> Object | None:
        """Write the patch to the job. Returns the job as written; None if it has changed.

        `patch` makes the patch for the time of each attempt, because the start timeout begins at that time.

        If the API server rejects it although the job is unchanged, a policy or a webhook did that. It is
        repeated, because otherwise the next job of the group would overtake this one. After
        `MAX_ADMISSION_ATTEMPTS` the command is given up, so that one job cannot block its group.

        Raises:
            SettledError: another pod-manager has settled the command.

        """
        for _ in range(MAX_ADMISSION_ATTEMPTS):
            try:
                return await self._retrier.retry_until_definite(
                    lambda: self._send(command.name, patch(self._clock.now())), operation
                )
            except RejectedError as error:
                self.record_rejection(command, error)
                found = await self._pods.find_job(command)
                if found is None:
                    return None
                if _is_settled(command, found):
                    raise SettledError(command.name) from error
                if found["status"]["fence"] == command.token or found["status"]["phase"] != Phase.PENDING:
                    return None
            await self._clock.sleep(ADMISSION_RETRY_SECONDS)
        _log.error("admission_given_up", fence=command.token)
        return None

    async def _patch(self, name: str, patch: Patch, operation: str) -> None:
        await self._retrier.retry_until_definite(lambda: self._send(name, patch), operation)

    async def _send(self, name: str, patch: Patch) -> Object:
        return await self._kube.patch(PHJOBS.resource, name, patch, subresource="status")


def _is_settled(command: Admit, job: Object | None) -> bool:
    """Return whether another pod-manager has settled the command."""
    return job is not None and job["status"]["fence"] not in (command.fence, command.token)

"""The planted bugs. The simulation has to catch each of them, because otherwise it proves nothing.

Each bug replaces a part of the real code with the code as it would be without one mechanism. `gross_bugs` has
the bugs that the product's own status conceals.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from tests.simulation.gross_bugs import GROSS_BUGS
from tests.simulation.planting import Bug, combine, replace

from phjob_core import messages, object_cache, planner, pod_reading, projection, steps, stream
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.labels import label_value
from phjob_core.scheduling import acceptance, accounting, engine, queue
from phjob_kube import http
from phjob_pod_manager import (
    api_retry,
    command_writes,
    commands,
    pod_creator,
    pod_writes,
    preconditions,
    reconciler,
    status_patches,
    store,
)
from phjob_pod_manager.manifest import builder
from phjob_runtime import service
from phjob_runtime.consumer import Acknowledge
from phjob_watcher import informer

# --- the fence ---


def _accepts_any_session(_: commands.CommandExecutor, envelope: stream.Envelope) -> bool:
    return not envelope.redelivered


async def _fence_without_waiting(self: commands.CommandExecutor, fence: Any, number: int) -> None:
    with patch.object(self._in_flight, "drained", _do_nothing):
        await _FENCE(self, fence, number)


_FENCE = commands.CommandExecutor._fence


async def _do_nothing(*_: object) -> None:
    pass


def _tests_without_fence(uid: str, phase: Any, _: str) -> status_patches.Patch:
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/status/phase", "value": phase},
    ]


_SET_GROUP_STATUS = status_patches.set_group_status


def _set_group_status_without_test(report: Any, last: str) -> status_patches.Patch:
    return [op for op in _SET_GROUP_STATUS(report, last) if op["path"] != "/status/fence"]


def _acknowledge_at_once(
    self: commands.CommandExecutor, envelope: stream.Envelope, acknowledge: Acknowledge
) -> None:
    def ignore(failure: str = "") -> None:
        """Do nothing, because the command is acknowledged already."""

    acknowledge()
    self._received.put_nowait((envelope, ignore))


def _never(*_: object) -> bool:
    return False


def _enqueue_by_job(self: commands.CommandExecutor, entry: Any) -> None:
    group = entry.command.group
    entry.command = entry.command.model_copy(update={"group": entry.command.uid})
    _ENQUEUE(self, entry)
    entry.command = entry.command.model_copy(update={"group": group})


_ENQUEUE = commands.CommandExecutor._enqueue


# --- the pod of an admission ---

_BUILD = builder.build


def _build_without_gate(*args: Any) -> Any:
    manifest = _BUILD(*args)
    return {**manifest, "spec": {n: v for n, v in manifest["spec"].items() if n != "schedulingGates"}}


async def _patch_without_uid(self: pod_writes.PodWriter, pod: Any, patch_: Any, operation: str) -> Any:
    operations = [op for op in patch_ if operation != "remove gate" or op["path"] != "/metadata/uid"]
    return await _PATCH_POD(self, pod, operations, operation)


_PATCH_POD = pod_writes.PodWriter._patch


def _finish_requeue_of_deleted_pod(now: planner.JobState) -> steps.Step | None:
    return planner._finish_requeue(now)


def _requeue_without_finalizer(now: planner.JobState, pod: Any) -> steps.Step | None:
    if pod.never_started:
        return planner._finish_requeue(now)
    if pod.deleting:
        return None
    return planner._after_log(now, steps.DeletePod(pod, pod.resource_version), pod)


_REMOVE_POD = store.JobStore.remove_pod


def _remove_pod_as_never_started(self: store.JobStore, gone: Any) -> bool:
    return _REMOVE_POD(self, gone.model_copy(update={"never_started": True}))


def _keep_gated_pods(step_of: Callable[..., Any]) -> Callable[..., Any]:
    def step(*args: Any, **options: Any) -> Any:
        found = step_of(*args, **options)
        return None if isinstance(found, steps.DeletePod) and found.pod.gated else found

    return step


def _always(*_: object) -> bool:
    return True


_JOB_UID = projection.job_uid


def _job_uid_of_controlled_pod(pod: Any) -> str:
    return _JOB_UID(pod) if pod["metadata"].get("ownerReferences") else ""


# --- writes, answers and caches ---

_RETRY_UNTIL_DEFINITE = api_retry.ApiRetrier.retry_until_definite


async def _retry_once(self: api_retry.ApiRetrier, request: Any, operation: str, max_attempts: int = 0) -> Any:
    try:
        return await _RETRY_UNTIL_DEFINITE(self, request, operation, max_attempts or 1)
    except UnreachableError as error:
        raise RejectedError(500, "Unknown", str(error)) from error


def _failure_as_rejection(status_: int, content: bytes, method: str = "GET") -> Exception:
    error = _FAILURE(status_, content, method)
    if isinstance(error, UnreachableError) and error.status in range(400, 429):
        return http.rejection(status_, content)
    return error


_FAILURE = http.failure


def _upsert_stale_fact(
    self: object_cache.ObjectCache[Any], fact: Any, *, from_snapshot: bool = False
) -> bool:
    self._facts[fact.uid] = fact
    return True


async def _verify_nothing(*_: object) -> bool:
    return True


_DELETE = pod_writes.PodWriter.delete


async def _delete_at_any_revision(self: pod_writes.PodWriter, *args: Any, **options: Any) -> Any:
    return await _DELETE(self, *args, **{**options, "revision": None})


def _is_empty(_: object) -> str:
    return ""


def _has_exit_code(self: messages.PodSeen) -> bool:
    return self.start_time is not None or self.exit_code is not None


# --- sessions ---

_RECEIVE = stream.StreamReader.receive


def _receive_across_gap(self: stream.StreamReader, envelope: stream.Envelope) -> stream.StreamAction:
    if self._reading and envelope.session == self._session and envelope.sequence > self._expected:
        self._expected = envelope.sequence
    return _RECEIVE(self, envelope)


def _use_listing_only(_: informer.Informer[Any], listing: Any) -> Any:
    return listing


async def _run_with_relist(self: informer.Informer[Any]) -> None:
    while True:
        try:
            await _RUN(self)
        except informer.WatchGapError:
            await self.relist()


_RUN = informer.Informer.run


# --- the scheduler ---


def _remove_job_and_charges(self: accounting.Accounting, job: accounting.TrackedJob) -> None:
    group = self._queue_of(label_value(job.seen.group))
    if job.pod:
        group.release(job.pod.uid)
    group.release(job.seen.uid)


def _update_started_pod_only(
    self: accounting.Accounting, seen: Any, job: accounting.TrackedJob | None
) -> set[str]:
    return set() if seen.gated and not seen.over else _UPDATE_POD(self, seen, job)


_UPDATE_POD = accounting.Accounting.update_pod
_DECIDE = engine.SchedulingEngine._decide


def _decide_without_reservation(self: engine.SchedulingEngine, label: str, now: Any) -> Any:
    decided = _DECIDE(self, label, now)
    for command in decided:
        if isinstance(command, messages.Admit):
            self._queue(label).release(command.uid)
    return decided


def _decide_without_reserved_notebooks(self: engine.SchedulingEngine, label: str, now: Any) -> Any:
    decided = _DECIDE(self, label, now)
    for command in decided:
        if isinstance(command, messages.AdmitPod):
            self._queue(label).release(command.uid)
    return decided


def _add_checked_jobs_only(self: Any, job: Any) -> None:
    if not job.pending_catalog_check:
        _ADD(self, job)


_ADD = queue.GroupQueue.add


_ACCEPT = acceptance.Acceptance.accept


def _accept_as_new(self: acceptance.Acceptance, job: Any, group: Any, **_: bool) -> bool:
    if not job.was_accepted:
        return _ACCEPT(self, job, group, is_new=True)
    return _ACCEPT(self, job, group, is_new=False)


BUGS: dict[str, Bug] = {
    "every job counts as new in a new session": replace(acceptance.Acceptance, "accept", _accept_as_new),
    "commands of any session are accepted": replace(
        commands.CommandExecutor, "_accepts", _accepts_any_session
    ),
    "the fence does not wait for older writes": replace(
        commands.CommandExecutor, "_fence", _fence_without_waiting
    ),
    "an admission of a notebook is not charged until it is observed": replace(
        engine.SchedulingEngine, "_decide", _decide_without_reserved_notebooks
    ),
    "redelivered commands are not settled": replace(command_writes.CommandWriter, "settle", _do_nothing),
    "the compare-and-swap does not test the fence": replace(status_patches, "_tests", _tests_without_fence),
    "a late report overwrites a newer one": replace(
        status_patches, "set_group_status", _set_group_status_without_test
    ),
    "commands are acknowledged before their effect": replace(
        commands.CommandExecutor, "receive", _acknowledge_at_once
    ),
    "a group's commands are written in parallel": replace(
        commands.CommandExecutor, "_enqueue", _enqueue_by_job
    ),
    "a settled command does not void the later ones": replace(command_writes, "_is_settled", _never),
    "the pod is created without a gate": replace(pod_creator, "build", _build_without_gate),
    "the gate is removed by name, not by uid": replace(pod_writes.PodWriter, "_patch", _patch_without_uid),
    "a deleted pod counts as never started": replace(
        planner, "_preparing_without_pod", _finish_requeue_of_deleted_pod
    ),
    "the end of any pod counts as proof of no start": replace(
        store.JobStore, "remove_pod", _remove_pod_as_never_started
    ),
    "a requeue deletes its pod without a finalizer": replace(
        planner, "_next_requeue_step", _requeue_without_finalizer
    ),
    "the finalizer of a requeue is left on the pod": replace(planner, "_is_being_requeued", _always),
    "a stray gated pod is not deleted": combine(
        replace(reconciler, "next_step", _keep_gated_pods(planner.next_step)),
        replace(reconciler, "step_without_job", _keep_gated_pods(planner.step_without_job)),
    ),
    "a pod without an owner belongs to no job": replace(projection, "job_uid", _job_uid_of_controlled_pod),
    "a job waits for the end of a sidecar": replace(pod_reading.PodReading, "runs_on", property(_is_empty)),
    "any exit code counts as a start": replace(messages.PodSeen, "started", property(_has_exit_code)),
    "an unknown outcome counts as a failure": replace(
        api_retry.ApiRetrier, "retry_until_definite", _retry_once
    ),
    "401 and 403 count as definite answers": replace(http, "failure", _failure_as_rejection),
    "the object cache accepts stale facts": replace(object_cache.ObjectCache, "upsert", _upsert_stale_fact),
    "preconditions are not verified with the API server": replace(
        preconditions.Preconditions, "verify", _verify_nothing
    ),
    "a pod is deleted although it has started since": replace(
        pod_writes.PodWriter, "delete", _delete_at_any_revision
    ),
    "gaps in the stream are ignored": replace(stream.StreamReader, "receive", _receive_across_gap),
    "a session keeps its name after a reconnect": replace(
        service.Service, "identity", property(lambda s: s.name)
    ),
    "a snapshot lacks the changes during its LIST": replace(
        informer.Informer, "merge_with_listing", _use_listing_only
    ),
    "an expired watch does not end the term": replace(informer.Informer, "run", _run_with_relist),
    "a deleted job's charges are released at once": replace(
        accounting.Accounting, "remove_job", _remove_job_and_charges
    ),
    "gated pods are never charged": replace(accounting.Accounting, "update_pod", _update_started_pod_only),
    "an admission is not charged until it is observed": replace(
        engine.SchedulingEngine, "_decide", _decide_without_reservation
    ),
    "a job that awaits a catalog check blocks nobody": replace(
        queue.GroupQueue, "add", _add_checked_jobs_only
    ),
    **GROSS_BUGS,
}
WORLD_OF_BUG = {
    "an admission of a notebook is not charged until it is observed": "notebooks",
    "a settled command does not void the later ones": "settled-commands",
    "gated pods are never charged": "jobs-deleted-unseen",
    "the object cache accepts stale facts": "repeated-messages",
    "gaps in the stream are ignored": "lost-messages",
    "an expired watch does not end the term": "expired-watches",
    "the gate is removed by name, not by uid": "delayed-gate-removals",
    "a pod without an owner belongs to no job": "orphan-deletion",
    "a job waits for the end of a sidecar": "sidecars",
    "a retry ignores its limit": "retry",
    "a retry ignores its causes": "retry",
    "a retry does not wait for the end of the pod": "retry",
    "a suspended job is admitted": "suspension",
    "a suspended job blocks its group": "suspension",
}
"""The worlds of the bugs that only one kind of fault reveals. In the usual world, that fault is too rare."""

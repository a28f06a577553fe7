"""Every write to a status, as a JSON Patch that tests the state that the write was decided on. Pure.

Each patch to a PhJob's status is a compare-and-swap. It tests the job's uid, phase and fence, so it does
nothing to a job that has changed (spec.md, A5; design/consistency.md, The fence).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from phjob_core.api import LOG_FAILED, Phase, Reason
from phjob_core.conditions import Condition, conditions_of
from phjob_core.lifecycle import Event, Transition, requeue
from phjob_core.messages import Admit, JobSeen, PodSeen, Reject, ReportGroupStatus, SetPendingReason
from phjob_core.quantities import Amounts, render_all
from phjob_core.retry import RetryCause, retry_backoff
from phjob_core.steps import ApplyEvent
from phjob_core.text import escape_controls
from phjob_pod_manager.attempts import append_attempt, describe_attempt, set_attempt_log
from phjob_pod_manager.timestamps import rfc3339

Patch = list[dict[str, Any]]


class Observed(NamedTuple):
    """The part of a job's metadata that its conditions depend on, as a service has observed it."""

    created: datetime
    generation: int
    """0 if it is unknown, because an older watcher has sent the job."""

    @classmethod
    def of(cls, job: JobSeen) -> "Observed":
        """Return that part of a job."""
        return cls(job.created, job.generation)


NOT_YET_PAUSE = timedelta(seconds=5)
"""The time before the next admission of a job whose pod's name is taken by a pod that is ending."""
_MAX_CHARS = {"reason": 128, "message": 4096}
"""The CRD's bounds. Reasons and messages of other programs may be longer, and contain any character."""
_MAX_ARCHIVE_ERROR_CHARS = 512
OBSERVE_GENERATION: Final[dict[str, Any]] = {
    "op": "copy", "from": "/metadata/generation", "path": "/status/observedGeneration",
}  # fmt: skip
"""The operation of a final write. No later edit of the spec can change the outcome, so each is observed."""


# --- patches for commands of the scheduler ---


def admit(command: Admit, pod_uid: str, now: datetime, observed: Observed) -> Patch:
    """Return the patch from Pending to Preparing, with the uid of the named pod."""
    state = {"phase": Phase.PREPARING, "reason": Reason.ADMITTED, "message": ""}
    return [
        *_tests(command.uid, Phase.PENDING, command.fence),
        *_enters(state, now, observed),
        *_sets(
            fence=command.token,
            revision=command.revision,
            resources=render_all(command.resources),
            podName=command.name,
            podUID=pod_uid,
            preparingTime=rfc3339(now),
            **_reserved(command.gpu_resource, command.overhead),
        ),
    ]


def fail_admission(
    command: Admit, job: JobSeen, step: ApplyEvent, change: Transition, now: datetime, max_requeues: int = 0
) -> Patch:
    """Return the patch for a job whose pod cannot be created.

    The job is requeued, delayed or failed. The patch writes the command's token, so the command is spent.
    """
    fields: dict[str, Any] = {"phase": change.phase, "reason": change.reason, "message": step.detail}
    if change.reason is Reason.REQUEUED:
        fields = _requeue_fields(job, step.detail, now, max_requeues)
    elif not change.phase.final:
        fields["requeueAfter"] = rfc3339(now + NOT_YET_PAUSE)
    if fields["phase"].final:
        fields |= {"finishTime": rfc3339(now), "reclaimed": True}
    spent = {"fence": command.token, "revision": command.revision}
    return [
        *_tests(command.uid, Phase.PENDING, command.fence),
        *_enters(fields, now, Observed.of(job)),
        *_sets(**spent),
    ]


def set_overhead(overhead: Amounts) -> Patch:
    """Return the operations that record what the cluster adds to the job's pod; none if that is nothing."""
    return _sets(**_reserved("", overhead))


def settle(command: Admit, token: str) -> Patch:
    """Return the patch that makes every earlier attempt at this admission fail."""
    return [
        *_tests(command.uid, Phase.PENDING, command.fence),
        *_sets(fence=token, revision=command.revision),
    ]


def reject(command: Reject, now: datetime) -> Patch:
    """Return the patch from Pending to Failed."""
    state = {"phase": Phase.FAILED, "reason": command.reason, "message": command.message}
    return [
        *_tests(command.uid, Phase.PENDING, command.fence),
        *_enters(state, now),
        *_sets(finishTime=rfc3339(now), reclaimed=True),
    ]


def set_pending_reason(command: SetPendingReason, now: datetime) -> Patch:
    """Return the patch that writes why a Pending job waits."""
    state = {"phase": Phase.PENDING, "reason": command.reason, "message": command.message}
    observed = Observed(command.created, command.generation) if command.created else None
    return [
        *_tests(command.uid, Phase.PENDING, command.fence),
        *_enters(state, now, observed),
        *_sets(revision=command.revision),
    ]


def set_group_status(report: ReportGroupStatus, last: str) -> Patch:
    """Return the patch that writes a PhGroup's status.

    `last`: the `place` of the report that was written last. The patch tests that there was none since.
    """
    fields = {
        "pending": report.pending,
        "preparing": report.preparing,
        "running": report.running,
        "used": render_all(report.used),
        "limit": render_all(report.limit),
        "defaultLimits": render_all(report.default_limits),
        "gpuResourceNames": list(report.gpu_resource_names) or "",
        "head": report.head,
        "waitingPods": report.waiting_pods,
        "notebooks": report.notebooks,
        "message": readable(report.message, _MAX_CHARS["message"]),
        "fence": report.place,
    }
    return [
        {"op": "test", "path": "/metadata/uid", "value": report.uid},
        {"op": "test", "path": "/status/fence", "value": last},
        {
            "op": "add",
            "path": "/status",
            "value": {key: value for key, value in fields.items() if value != ""},
        },
    ]


# --- patches of the reconciler ---


def apply_event(
    job: JobSeen,
    step: ApplyEvent,
    change: Transition,
    pod: PodSeen | None,
    now: datetime,
    max_requeues: int = 0,
) -> Patch:
    """Return the patch that writes the transition of an event.

    It also tests that the fields of the spec that the event was decided on are unchanged. A JSON Patch takes
    an absent field for null. A requeue and a retry test the generation: without this, a job that is cancelled
    or deleted at that moment would return to its queue. `max_requeues` caps the job's requeues; 0: no cap.
    """
    tests = [
        *_tests_of(job),
        *({"op": "test", "path": f"/spec/{name}", "value": value} for name, value in step.decided_on.items()),
    ]
    is_requeue = change.reason is Reason.REQUEUED
    if job.generation and (step.retry or is_requeue):
        # Any edit or deletion changes it. The job is then read again, and the step planned again.
        tests.append({"op": "test", "path": "/metadata/generation", "value": job.generation})
    node = pod.node if pod else job.node
    message = (change.message or "").format(detail=step.detail, node=node, pod=job.name)
    if is_requeue:
        fields = _requeue_fields(job, message, now, max_requeues)
        if fields["phase"].final and pod is None:
            fields["reclaimed"] = True
        return [*tests, *_enters(fields, now, Observed.of(job)), *_ends_attempt(job, pod, fields, now)]
    fields = {"phase": change.phase, "reason": change.reason, "message": message}
    if step.event is Event.POD_FAILED and pod and pod.reason:
        fields["reason"] = pod.reason
    if step.retry:
        retried = _retry_fields(job, step.retry, message, now)
        attempt = _ends_attempt(job, pod, {**fields, "phase": Phase.PENDING}, now)
        return [*tests, *_enters(retried, now, Observed.of(job)), *_forget_start(job), *attempt]
    if pod:
        fields |= _pod_fields(pod, now, has_ended=change.phase.final)
    if change.phase.final:
        fields.setdefault("finishTime", rfc3339(now))
        if pod is None:
            fields["reclaimed"] = True
    elif change.phase is Phase.RUNNING and job.start_time is None:
        fields.setdefault("startTime", rfc3339(now))
    return [*tests, *_enters(fields, now, Observed.of(job)), *_ends_attempt(job, pod, fields, now)]


def mark_reclaimed(job: JobSeen, message: str = "") -> Patch:
    """Return the patch that marks a finished job whose pod is gone, with a new message if there is one."""
    fields = {"message": message} if message else {}
    return [
        *_tests_of(job),
        *_sets(reclaimed=True, **fields),
        OBSERVE_GENERATION,
    ]


def set_log_url(job: JobSeen, url: str, message: str = "") -> Patch:
    """Return the patch that writes the URL of the log.

    `message`: the job's message, if it ends in an archive error, which the patch removes.
    """
    fields = {"message": message.rpartition(LOG_FAILED)[0]} if LOG_FAILED in message else {}
    log = set_attempt_log(job, url)
    return [*_tests_of(job), *_sets(logURL=url, **fields), *log]


def set_archive_error(job: JobSeen, error: str, message: str) -> Patch:
    """Return the patch that appends an archive error to the job's message, in place of an earlier one."""
    message = message.rpartition(LOG_FAILED)[0] if LOG_FAILED in message else message
    max_chars = _MAX_CHARS["message"] - len(LOG_FAILED) - _MAX_ARCHIVE_ERROR_CHARS
    message = f"{message[:max_chars]}{LOG_FAILED}{error[:_MAX_ARCHIVE_ERROR_CHARS]}"
    return [*_tests_of(job), *_sets(message=message)]


class Outcome(NamedTuple):
    """The part of a transition that its user reads."""

    phase: str
    reason: str
    message: str


def written_outcome(patch: Patch) -> Outcome:
    """Return the phase, reason and message that a transition's patch writes."""
    written = {op["path"]: op["value"] for op in patch if op["op"] == "add"}
    return Outcome(*(written[f"/status/{field}"] for field in Outcome._fields))


def readable(text: str, max_chars: int) -> str:
    """Return a text as people may read it in a status or an Event: bounded, and without control characters.

    It may end in a user's log. Newlines and tabs stay, because kubectl's tables and ours handle them.
    """
    return escape_controls(text, keep_layout=True)[:max_chars]


def _reserved(gpu_resource: str, overhead: Amounts) -> dict[str, Any]:
    """Return the fields of an admission that most jobs do not have."""
    fields = {"gpuResource": gpu_resource, "overhead": render_all(overhead)}
    return {name: value for name, value in fields.items() if value}


def _requeue_fields(job: JobSeen, message: str, now: datetime, max_requeues: int) -> dict[str, Any]:
    """Return the fields of a requeue, or of the failure over its limit or its cap (spec.md, Q5)."""
    limit, which = job.requeue_limit, "its limit"
    if max_requeues and (limit is None or max_requeues < limit):
        limit, which = max_requeues, "the cap of jobSubmission.maxRequeues"
    outcome = requeue(job.requeued, limit, now)
    fields: dict[str, Any] = {"phase": outcome.phase, "reason": outcome.reason, "message": message}
    if outcome.phase is Phase.FAILED:
        fields |= {
            "message": f"requeued {job.requeued} times, which is {which}: {message}",
            "finishTime": rfc3339(now),
        }
    else:
        fields |= {"requeued": outcome.requeued, "podUID": ""}
        if outcome.requeue_after:
            fields["requeueAfter"] = rfc3339(outcome.requeue_after)
    return fields


def _retry_fields(job: JobSeen, cause: RetryCause, message: str, now: datetime) -> dict[str, Any]:
    """Return the fields of a retry (spec.md, L17)."""
    retries = job.retried + 1
    return {
        "phase": Phase.PENDING,
        "reason": Reason.RETRIED,
        "message": f"retry {retries} of {job.retry_limit} ({cause}): {message}",
        "retried": retries,
        "podUID": "",
        "requeueAfter": rfc3339(now + retry_backoff(retries)),
    }


def _forget_start(job: JobSeen) -> Patch:
    """Return the operation that removes the start of the attempt that has ended, if it has one."""
    return [{"op": "remove", "path": "/status/startTime"}] if job.start_time else []


def _ends_attempt(job: JobSeen, pod: PodSeen | None, fields: Mapping[str, Any], now: datetime) -> Patch:
    """Return the operations that describe the attempt, if a write of these fields ends it."""
    if not job.phase.admitted or fields["phase"].admitted:
        return []
    return append_attempt(job, describe_attempt(job, pod, _readable("reason", fields), now))


def _pod_fields(pod: PodSeen, now: datetime, *, has_ended: bool) -> dict[str, Any]:
    """Return the fields that describe the pod and its container."""
    fields: dict[str, Any] = {"podUID": pod.uid}
    if pod.node:
        fields["nodeName"] = pod.node
    if pod.start_time:
        fields["startTime"] = rfc3339(pod.start_time)
    if has_ended:
        fields["finishTime"] = rfc3339(pod.finish_time or now)
        if pod.exit_code is not None:
            fields["exitCode"] = pod.exit_code
    return fields


def _tests(uid: str, phase: str, fence: str) -> Patch:
    """Return the operations that test the state that a write was decided on."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/status/phase", "value": phase},
        {"op": "test", "path": "/status/fence", "value": fence},
    ]


def _tests_of(job: JobSeen) -> Patch:
    """Return the same operations for an observed job. The phase is the one that is stored."""
    return _tests(job.uid, job.foreign_phase or job.phase, job.fence)


def _enters(fields: dict[str, Any], now: datetime, observed: Observed | None = None) -> Patch:
    """Return the operations that write a phase, its reason and message, and the conditions that follow.

    Without `observed`, those of an unfinished job are not written: an older scheduler does not send it.
    """
    phase, reason, message = Phase(fields["phase"]), _readable("reason", fields), _readable("message", fields)
    writes = _sets(**{**fields, "reason": reason, "message": message})
    if phase.final:
        writes.append(OBSERVE_GENERATION)
    elif observed and observed.generation:
        writes += _sets(observedGeneration=observed.generation)
    if phase.final or observed:
        created = observed.created if observed else now  # Only the conditions of an unfinished job have it.
        found = conditions_of(phase, reason, message, created=created, now=now)
        writes += _sets(conditions=[_render(condition) for condition in found])
    return writes


def _render(condition: Condition) -> dict[str, str]:
    """Return a condition in Kubernetes' form."""
    return {
        "type": condition.type,
        "status": "True",
        "lastTransitionTime": rfc3339(condition.since),
        "reason": condition.reason,
        "message": condition.message,
    }


def _readable(name: str, fields: Mapping[str, Any]) -> str:
    """Return a text of a status as people may read it."""
    return readable(fields[name], _MAX_CHARS[name])


def _sets(**fields: Any) -> Patch:
    """Return the operations that write the fields, with texts as `readable` makes them."""
    fields |= {name: _readable(name, fields) for name in _MAX_CHARS if name in fields}
    return [{"op": "add", "path": f"/status/{name}", "value": value} for name, value in fields.items()]

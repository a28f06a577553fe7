"""Every write to a PhJob's status, as a JSON Patch that tests what it was decided on.

Pure. Each patch is a compare-and-swap: it names the job's uid, phase and fence, so it does nothing
to a job that has moved on (contract.md, Custom resources; design: ARCHITECTURE.md, The fence).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.lifecycle import Event, Transition, requeue
from shared.messages import Admit, Explain, JobSeen, PodSeen
from shared.phjob import Phase, Reason
from shared.resources import Amounts, render

Patch = list[dict[str, Any]]
Object = Mapping[str, Any]

_LONGEST = {"reason": 128, "message": 4096}
"""The CRD's bounds on what others may have said."""


def admit(order: Admit, now: datetime) -> Patch:
    """Pending to Preparing."""
    return [
        *_expect(order.uid, Phase.PENDING, order.fence),
        *_set(
            phase=Phase.PREPARING,
            reason=Reason.ADMITTED,
            message="",
            fence=order.token,
            revision=order.revision,
            resources=rendered(order.resources),
            podName=order.name,
            preparingTime=_rfc3339(now),
        ),
    ]


def explain(order: Explain) -> Patch:
    """Why a Pending job waits."""
    return [
        *_expect(order.uid, Phase.PENDING, order.fence),
        *_set(reason=order.reason, message=order.message, revision=order.revision),
    ]


def settle(order: Admit, token: str) -> Patch:
    """Make every earlier attempt at this admission fail, whenever it arrives."""
    return [
        *_expect(order.uid, Phase.PENDING, order.fence),
        *_set(fence=token, revision=order.revision),
    ]


def reclaimed(job: JobSeen) -> Patch:
    """Nothing is left of a finished job but its record."""
    return [*_expect(job.uid, job.phase, job.fence), *_set(reclaimed=True)]


def refuse(job_uid: str, fence: str, reason: str, message: str, now: datetime) -> Patch:
    """Pending to Failed."""
    return [
        *_expect(job_uid, Phase.PENDING, fence),
        *_set(
            phase=Phase.FAILED,
            reason=reason,
            message=message,
            finishTime=_rfc3339(now),
            reclaimed=True,
        ),
    ]


def transit(
    job: JobSeen,
    event: Event,
    transition: Transition,
    message: str,
    pod: PodSeen | None,
    now: datetime,
) -> Patch:
    """The transition that an event means for the job."""
    if transition.reason is Reason.REQUEUED:
        return _requeue(job, message, now)
    fields: dict[str, Any] = {
        "phase": transition.phase,
        "reason": transition.reason,
        "message": message,
    }
    if event is Event.POD_FAILED and pod and pod.reason:
        fields["reason"] = pod.reason
    if pod:
        fields |= _from_pod(pod, now, ended=transition.phase.final)
    if transition.phase.final:
        fields.setdefault("finishTime", _rfc3339(now))
        if pod is None:
            fields["reclaimed"] = True
    elif transition.phase is Phase.RUNNING:
        fields.setdefault("startTime", _rfc3339(now))
    return [*_expect(job.uid, job.phase, job.fence), *_set(**fields)]


def _requeue(job: JobSeen, message: str, now: datetime) -> Patch:
    outcome = requeue(job.requeued, job.requeue_limit, now)
    fields: dict[str, Any] = {"phase": outcome.phase, "reason": outcome.reason, "message": message}
    if outcome.phase is Phase.FAILED:
        fields |= {
            "message": f"requeued {job.requeued} times, which is its limit: {message}",
            "finishTime": _rfc3339(now),
            "reclaimed": True,
        }
    else:
        fields["requeued"] = outcome.requeued
        if outcome.requeue_after:
            fields["requeueAfter"] = _rfc3339(outcome.requeue_after)
    return [*_expect(job.uid, job.phase, job.fence), *_set(**fields)]


def _from_pod(pod: PodSeen, now: datetime, *, ended: bool) -> dict[str, Any]:
    """The container's own times and exit code."""
    fields: dict[str, Any] = {}
    if pod.node:
        fields["nodeName"] = pod.node
    if pod.start_time:
        fields["startTime"] = _rfc3339(pod.start_time)
    if ended:
        fields["finishTime"] = _rfc3339(pod.finish_time or now)
        if pod.exit_code is not None:
            fields["exitCode"] = pod.exit_code
    return fields


def outcome(patch: Patch) -> tuple[str, str]:
    """The phase and the reason that a transition's patch writes."""
    written = {op["path"]: op["value"] for op in patch if op["op"] == "add"}
    return written["/status/phase"], written["/status/reason"]


def rendered(amounts: Amounts) -> Mapping[str, str]:
    """Amounts as quantities."""
    return {resource: render(resource, amount) for resource, amount in amounts.items()}


def _expect(uid: str, phase: Phase, fence: str) -> Patch:
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/status/phase", "value": phase},
        {"op": "test", "path": "/status/fence", "value": fence},
    ]


def _set(**fields: Any) -> Patch:
    for name, longest in _LONGEST.items():
        if name in fields:
            fields[name] = fields[name][:longest]
    return [{"op": "add", "path": f"/status/{name}", "value": value} for name, value in fields.items()]


def _rfc3339(moment: datetime) -> str:
    """Kubernetes' own format, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

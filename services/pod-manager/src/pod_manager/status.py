"""Every write to a status, as a JSON Patch that tests what it was decided on.

Pure. Each patch to a PhJob's is a compare-and-swap: it names the job's uid, phase and fence, so it does
nothing to a job that has moved on (contract.md, Custom resources; design: ARCHITECTURE.md, The fence).
"""

from collections.abc import Mapping
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, NamedTuple

from pod_manager.plan import Transit
from shared.lifecycle import Event, Transition, requeue
from shared.messages import Admit, Explain, JobSeen, PodSeen, ReportGroup
from shared.phjob import Phase, Reason
from shared.resources import rendered

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
            preparingTime=rfc3339(now),
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


def confirm(job: JobSeen) -> Patch:
    """That the job is Preparing still, and gets a pod: no earlier one, nor that there is none, counts now."""
    written = job.preparing_time
    later = {"preparingTime": rfc3339(_moved(written))} if written else {}
    return [*_expect(job.uid, job.phase, job.fence), *_expect_no_pod_since(job), *_set(**later)]


def _moved(moment: datetime) -> datetime:
    """A second later; or earlier, at the end of time, which a hand-written status may name."""
    second = timedelta(seconds=1)
    return moment + second if moment.year < MAXYEAR else moment - second


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
            finishTime=rfc3339(now),
            reclaimed=True,
        ),
    ]


def transit(
    job: JobSeen,
    step: Transit,
    change: Transition,
    pod: PodSeen | None,
    now: datetime,
    generation: int | None = None,
) -> Patch:
    """The transition that an event means for the job; with `generation`, only if its spec still is that."""
    expect = _expect(job.uid, job.phase, job.fence)
    if generation is not None:
        expect.append({"op": "test", "path": "/metadata/generation", "value": generation})
    if job.phase is Phase.PREPARING and (pod is None or not change.phase.final):
        expect += _expect_no_pod_since(job)
    node = pod.node if pod else job.node
    message = (change.message or "").format(why=step.why, node=node, pod=job.name)
    if change.reason is Reason.REQUEUED:
        return [*expect, *_set(**_requeued(job, message, now, pod_stands=pod is not None))]
    fields: dict[str, Any] = {"phase": change.phase, "reason": change.reason, "message": message}
    if step.event is Event.POD_FAILED and pod and pod.reason:
        fields["reason"] = pod.reason
    if pod:
        fields |= _from_pod(pod, now, ended=change.phase.final)
    if change.phase.final:
        fields.setdefault("finishTime", rfc3339(now))
        if pod is None:
            fields |= _without_pod(job)
    elif change.phase is Phase.RUNNING and job.start_time is None:
        fields.setdefault("startTime", rfc3339(now))
    return [*expect, *_set(**fields)]


def report(told: ReportGroup, last: str) -> Patch:
    """How a group stands, if the report of that place is the last one written."""
    said = {
        "pending": told.pending,
        "preparing": told.preparing,
        "running": told.running,
        "used": rendered(told.used),
        "limit": rendered(told.limit),
        "head": told.head,
        "message": told.message[: _LONGEST["message"]],
        "fence": told.place,
    }
    return [
        {"op": "test", "path": "/metadata/uid", "value": told.uid},
        {"op": "test", "path": "/status/fence", "value": last},
        {"op": "add", "path": "/status", "value": {key: value for key, value in said.items() if value != ""}},
    ]


def log_stored(job: JobSeen, url: str) -> Patch:
    """Where the log of the job's latest try is; what was said of an archive that failed is over."""
    message = job.message.partition(_NOT_STORED)[0]
    said = {"message": message} if message != job.message else {}
    return [*_expect(job.uid, job.phase, job.fence), *_set(logURL=url, **said)]


def log_not_stored(job: JobSeen, why: str) -> Patch:
    """That the archive does not take the log, behind whatever else is to be said of the job."""
    message = job.message.partition(_NOT_STORED)[0]
    room = _LONGEST["message"] - len(_NOT_STORED) - _ROOM_FOR_WHY
    said = f"{message[:room]}{_NOT_STORED}{why[:_ROOM_FOR_WHY]}"
    return [*_expect(job.uid, job.phase, job.fence), *_set(message=said)]


_NOT_STORED = "; its log is not archived: "
_ROOM_FOR_WHY = 512


def _requeued(job: JobSeen, message: str, now: datetime, *, pod_stands: bool) -> dict[str, Any]:
    outcome = requeue(job.requeued, job.requeue_limit, now)
    fields: dict[str, Any] = {"phase": outcome.phase, "reason": outcome.reason, "message": message}
    if outcome.phase is Phase.FAILED:
        fields |= {
            "message": f"requeued {job.requeued} times, which is its limit: {message}",
            "finishTime": rfc3339(now),
            **({} if pod_stands else _without_pod(job)),
        }
    else:
        fields["requeued"] = outcome.requeued
        if outcome.requeue_after:
            fields["requeueAfter"] = rfc3339(outcome.requeue_after)
    return fields


def _without_pod(job: JobSeen) -> dict[str, Any]:
    """What to write of a job that ends and has no pod.

    One that was admitted is shown once more without a pod, before it is seen no more: else the
    scheduler, which may not know yet whether there is one, would have to wait for it.
    """
    return {"podName": ""} if job.phase.admitted else {"reclaimed": True}


def _from_pod(pod: PodSeen, now: datetime, *, ended: bool) -> dict[str, Any]:
    """The container's own times and exit code."""
    fields: dict[str, Any] = {}
    if pod.node:
        fields["nodeName"] = pod.node
    if pod.start_time:
        fields["startTime"] = rfc3339(pod.start_time)
    if ended:
        fields["finishTime"] = rfc3339(pod.finish_time or now)
        if pod.exit_code is not None:
            fields["exitCode"] = pod.exit_code
    return fields


class Outcome(NamedTuple):
    """What a transition's patch writes for its user to read."""

    phase: str
    reason: str
    message: str


def outcome(patch: Patch) -> Outcome:
    """What a transition's patch writes for its user to read."""
    written = {op["path"]: op["value"] for op in patch if op["op"] == "add"}
    return Outcome(*(written[f"/status/{field}"] for field in Outcome._fields))


def _expect(uid: str, phase: Phase, fence: str) -> Patch:
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/status/phase", "value": phase},
        {"op": "test", "path": "/status/fence", "value": fence},
    ]


def _expect_no_pod_since(job: JobSeen) -> Patch:
    """Nobody has confirmed the admission since, to create its next pod (`confirm`)."""
    if job.preparing_time is None:
        return []
    return [{"op": "test", "path": "/status/preparingTime", "value": rfc3339(job.preparing_time)}]


def _set(**fields: Any) -> Patch:
    for name, longest in _LONGEST.items():
        if name in fields:
            fields[name] = fields[name][:longest]
    return [{"op": "add", "path": f"/status/{name}", "value": value} for name, value in fields.items()]


def rfc3339(moment: datetime) -> str:
    """Kubernetes' own format, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

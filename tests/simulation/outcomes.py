"""The checks of each job's outcome, of the deletion of pods, and of the number of writes.

A job's outcome has to be that of its named pod: what the kubelet reported, or what really ran on the node.
The checks use no service's own state.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.simulation.admissions import MAX_SKEW_SECONDS
from tests.simulation.loop import seconds
from tests.simulation.nodes import Start
from tests.simulation.replay import FINAL_PHASES, MAX_REACTION_SECONDS, JobHistory, Replay
from tests.simulation.scenario import NODE_CLOCKS, SERVICE_CLOCKS, Scenario
from tests.simulation.store import FINISHED_POD_PHASES, Change, Object, job_of
from tests.support.promises import is_gated

PREPARING_TIMEOUT_SECONDS = 8
"""jobSubmission.preparingTimeoutSeconds of every run."""
POD_MANAGER = "pod-manager"
REASONS_WITHOUT_TTL = ("Cancelled", "OverActiveDeadline", "NodeLost")
"""The reasons of a final phase after which the pod is deleted at once."""
REASONS_WITHOUT_POD = ("OverRequeueLimit", "InvalidSpec", "OverQuota", "TooManyPending")
"""The reasons of a final phase that do not depend on the pod. `admissions` checks them."""
CONDITIONS = {"Succeeded": {"Complete"}, "Failed": {"Failed", "Stalled"}, "Cancelled": {"Failed", "Stalled"}}
"""The conditions that are True in each final phase."""
BASE_WRITES = 20
"""The number of writes that any job may take."""
WRITES_PER_ATTEMPT = 12
"""The number of further writes for each admission, requeue and pod of a job."""
SECONDS_PER_WRITE = 3.0
"""The time in which a waiting job may take one further write."""


class OutcomeChecker:
    """The checks of all jobs of a run. It counts the services' writes."""

    def __init__(self, scenario: Scenario, starts: Sequence[Start]) -> None:
        """`starts` are those that the nodes recorded."""
        self._scenario = scenario
        self._started = {start.pod: start.at for start in starts}
        self._writes: Counter[str] = Counter()
        """The number of the services' writes for each job, by its uid."""

    def violations(self, replay: Replay, change: Change) -> Iterator[str]:
        """Return each wrong final phase, and each pod that a service ended too early.

        `replay` is the cluster right before the change.
        """
        by_service = "-" in change.author and "~" in change.author
        if change.plural == "phjobs":
            job = replay.jobs.get(change.object["metadata"]["uid"])
            if by_service:
                self._writes[change.object["metadata"]["uid"]] += 1
            is_final = not change.gone and change.object["status"]["phase"] in FINAL_PHASES
            if job and is_final and job.status["phase"] not in FINAL_PHASES:
                yield from _outcome_violations(replay, job, change, self._scenario, self._started)
        if change.plural == "pods" and by_service:
            self._writes[job_of(change.object)] += 1
            job = replay.jobs.get(job_of(change.object))
            yield from _deletion_violations(job, change, self._scenario)
            yield from _gate_violations(job, change)

    def excess_writes(self, replay: Replay, now: float) -> Iterator[str]:
        """Return each job that took too many writes."""
        for uid, count in self._writes.items():
            job = replay.jobs.get(uid)
            if job:
                age = now - job.created.at
                attempts = len(job.admissions) + len(job.requeues) + len(job.pods)
                if count > BASE_WRITES + WRITES_PER_ATTEMPT * attempts + age / SECONDS_PER_WRITE:
                    yield f"{job.latest['metadata']['name']} took {count} writes in {age:.0f} s"


def condition_violations(change: Change) -> Iterator[str]:
    """Return a violation if the conditions of a job contradict its phase (spec.md, A16)."""
    if change.plural != "phjobs" or change.gone:
        return
    status = change.object["status"]
    is_true = {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}
    expected = CONDITIONS.get(status["phase"], {"Reconciling"})
    if status["reason"] == "Suspended":
        expected = expected | {"Suspended"}
    if is_true != expected and (is_true or status["phase"] in FINAL_PHASES):
        name, state = change.object["metadata"]["name"], f"{status['phase']}, {status['reason']}"
        yield f"{name} is {state}, but its conditions are {', '.join(sorted(is_true)) or 'missing'}"


def _outcome_violations(
    replay: Replay, job: JobHistory, change: Change, scenario: Scenario, started: Mapping[str, float]
) -> Iterator[str]:
    """Return each difference between the job's final phase and what its pod did."""
    status, name = change.object["status"], change.object["metadata"]["name"]
    uid = job.status.get("podUID", "")
    outcome = f"{name} ended as {status['phase']}, {status['reason']}"
    match status["reason"]:
        case "Cancelled":
            if not job.spec.get("cancel") and "deletionTimestamp" not in job.latest["metadata"]:
                yield f"{outcome}, but was not cancelled"
        case "OverActiveDeadline":
            yield from _deadline_violations(job, change, scenario, started.get(uid))
        case "NodeLost":
            if not scenario.node_grace:
                yield f"{outcome}, without nodeLostGraceSeconds"
        case "PodDeleted":
            yield from _pod_deleted_violations(replay, uid, outcome, started)
        case "PodCreationFailed":
            yield f"{outcome}: {status.get('message')}"
        case reason if reason not in REASONS_WITHOUT_POD:
            yield from _pod_differences(status, replay.last.get(uid), outcome)
            if NODE_CLOCKS not in scenario.third_parties:
                yield from _killed_pod_violations(replay, uid, outcome)


def _pod_deleted_violations(
    replay: Replay, uid: str, outcome: str, started: Mapping[str, float]
) -> Iterator[str]:
    """Return a violation if no third party deleted the pod and it never started.

    Such a job has to be requeued.
    """
    deletion, pod = replay.deletions.get(uid), replay.last.get(uid)
    conditions = pod["status"].get("conditions") or () if pod else ()
    is_collected = any(condition["reason"] == "DeletionByPodGC" for condition in conditions)
    if deletion is None:
        if not is_collected:
            yield f"{outcome}, but its pod was not deleted"
    elif deletion.author.startswith(POD_MANAGER) and uid not in started and not is_collected:
        yield f"{outcome}, but {deletion.author} deleted its pod, which never started"


def _killed_pod_violations(replay: Replay, uid: str, outcome: str) -> Iterator[str]:
    """Return a violation if the container failed after its pod was to be deleted (spec.md, L7)."""
    deletion, pod = replay.deletions.get(uid), replay.last.get(uid)
    if deletion is None or pod is None or _phase_by_main(pod) != "Failed":
        return
    finished = _terminated_state(pod).get("finishedAt")
    if finished and seconds(finished) > deletion.at + MAX_SKEW_SECONDS:
        late = seconds(finished) - deletion.at
        yield f"{outcome}, but its container failed {late:.0f} s after the deletion of its pod was requested"


def _pod_differences(status: Object, pod: Object | None, outcome: str) -> Iterator[str]:
    """Return each difference between the job's status and its pod."""
    if pod is None or _phase_by_main(pod) != status["phase"]:
        yield f"{outcome}, but its pod was {pod['status'] if pod else 'missing'}"
    else:
        yield from _container_differences(status, _terminated_state(pod), outcome)


def _container_differences(status: Object, terminated: Object, outcome: str) -> Iterator[str]:
    """Return each difference between the job's status and its container's last state."""
    if not terminated:
        return
    fields = {"exitCode": "exitCode", "startTime": "startedAt", "finishTime": "finishedAt"}
    for field, container_field in fields.items():
        if container_field in terminated and status.get(field) != terminated[container_field]:
            actual = terminated[container_field]
            yield f"{outcome}, with {field} {status.get(field)}, but its container has {actual}"
    if status["phase"] == "Failed" and status["reason"] != terminated["reason"]:
        yield f"{outcome}, but its container has {terminated['reason']}"


def _phase_by_main(pod: Object) -> str:
    """Return the phase in which the pod leaves its job: by its main container, whatever a sidecar does."""
    phase: str = pod["status"]["phase"]
    code = _terminated_state(pod).get("exitCode")
    return phase if code is None else "Succeeded" if code == 0 else "Failed"


def _terminated_state(pod: Object) -> Object:
    """Return the terminated state of the main container; empty if there is none."""
    statuses: Sequence[Any] = pod["status"].get("containerStatuses") or ()
    found: Object = next((s["state"].get("terminated", {}) for s in statuses if s["name"] == "main"), {})
    return found


def _deadline_violations(
    job: JobHistory, change: Change, scenario: Scenario, started: float | None
) -> Iterator[str]:
    """Return a violation if the job was ended before its deadline. `started` is the start of its pod."""
    name = change.object["metadata"]["name"]
    deadline = job.spec.get("activeDeadlineSeconds", scenario.deadline)
    if started is None or not deadline:
        yield f"{name} exceeded its deadline, but has none or never started"
        return
    if {NODE_CLOCKS, SERVICE_CLOCKS} & scenario.third_parties:
        started = job.admissions[-1].at
    if SERVICE_CLOCKS not in scenario.third_parties and change.at < started + deadline - MAX_SKEW_SECONDS:
        yield f"{name} was ended {started + deadline - change.at:.1f} s before its deadline"


def _deletion_violations(job: JobHistory | None, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return a violation if a service deleted the named pod too early."""
    pod = change.before
    is_deleted = change.gone or "deletionTimestamp" in change.object["metadata"]
    if pod is None or not is_deleted or "deletionTimestamp" in pod["metadata"]:
        return
    metadata = change.object["metadata"]
    if job is None or job.gone or job.status.get("podUID") != metadata["uid"]:
        return
    phase, name = job.status["phase"], metadata["name"]
    if phase in FINAL_PHASES:
        yield from _reclaim_violations(job, change, scenario)
    elif phase in ("Preparing", "Running") and _may_await_lost_node(job, scenario):
        return
    elif phase == "Running":
        yield f"{change.author} deleted the pod of {name}, which is Running"
    elif pod["status"]["phase"] == "Running":
        yield f"{change.author} deleted the pod of {name}, which had started"
    elif SERVICE_CLOCKS in scenario.third_parties or pod["status"]["phase"] in FINISHED_POD_PHASES:
        return
    else:
        # The admission may have arrived long after it was sent. A new janitor counts from `preparingTime`.
        arrived, sent = job.admissions[-1].at, seconds(job.status["preparingTime"])
        is_early = change.at < sent + PREPARING_TIMEOUT_SECONDS - MAX_SKEW_SECONDS
        if is_early or sent < arrived - MAX_REACTION_SECONDS:
            yield f"{name} was requeued {change.at - arrived:.1f} s after its admission"


def _may_await_lost_node(job: JobHistory, scenario: Scenario) -> bool:
    """Return whether the job's pod may be deleted because its node is lost, to retry it (spec.md, L17)."""
    retry = job.spec.get("retry") or {"limit": 0, "on": ()}
    is_permitted = "NodeLost" in retry["on"] and job.status.get("retried", 0) < retry["limit"]
    return is_permitted and bool(scenario.node_grace) and job.status["reason"] == "NodeLost"


def _reclaim_violations(job: JobHistory, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return a violation if a finished job's pod was deleted before its TTL was over."""
    name = change.object["metadata"]["name"]
    if job.status["reason"] in REASONS_WITHOUT_TTL or SERVICE_CLOCKS in scenario.third_parties:
        return
    if change.before and change.before["status"]["phase"] == "Running" and _terminated_state(change.before):
        return  # A sidecar runs on (spec.md, L4).
    ttl = job.spec.get("ttlSecondsAfterFinished")
    if NODE_CLOCKS in scenario.third_parties:
        began = job.admissions[-1].at
    else:
        began = seconds(job.status["finishTime"])
    if not ttl or change.at < began + ttl - MAX_SKEW_SECONDS:
        yield f"the pod of {name} was reclaimed {change.at - began:.1f} s after its end, but its TTL is {ttl}"


def _gate_violations(job: JobHistory | None, change: Change) -> Iterator[str]:
    """Return a violation if the gate of a pod was removed that its job does not name, or does not want.

    A pod without a node never gets one once its deletion was requested, even without its gate: the scheduler
    of Kubernetes skips it (pkg/scheduler/schedule_one.go, skipPodSchedule).
    """
    if change.before is None or change.gone or not is_gated(change.before) or is_gated(change.object):
        return
    if "deletionTimestamp" in change.before["metadata"]:
        return
    name, uid = change.object["metadata"]["name"], change.object["metadata"]["uid"]
    if job and not job.gone and job.status.get("podUID") != uid:
        yield f"the pod {uid} of {name} may start, but its job names {job.status.get('podUID')!r}"
    if job and job.admissions and "deletionTimestamp" in job.admissions[-1].object["metadata"]:
        yield f"the pod {uid} of {name} may start, but its job was being deleted when it was admitted"

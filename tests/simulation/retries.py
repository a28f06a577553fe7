"""The checks of retries (spec.md, L17): who permitted them, after which end, and how often.

A command may start again only if its user permits that, for what really became of the last pod, and only
after that pod's command has ended.
"""

from collections.abc import Iterator, Mapping, Sequence

from tests.simulation.loop import seconds
from tests.simulation.nodes import Start
from tests.simulation.replay import JobHistory, Replay
from tests.simulation.scenario import NODE_CLOCKS, SERVICE_CLOCKS, Scenario
from tests.simulation.store import Change, Object

BACKOFF_SECONDS = (30.0, 60.0, 120.0, 240.0)
"""The backoff after the nth retry."""
MAX_SKEW_SECONDS = 1.5
DISRUPTION, NODE_LOST, FAILURE = "Disruption", "NodeLost", "Failure"


def violations(replay: Replay, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return each rule that a retry violates, and each failure that had to be a retry.

    `replay` is the cluster right before the change.
    """
    if change.plural != "phjobs" or change.gone or change.before is None:
        return
    before, now = change.before["status"], change.object["status"]
    job = replay.jobs[change.object["metadata"]["uid"]]
    if now.get("retried", 0) != before.get("retried", 0):
        yield from _retry_violations(replay, job, change, scenario)
    elif now["phase"] == "Failed" and before["phase"] in ("Preparing", "Running"):
        yield from _failure_violations(replay, job, change, scenario)


def _retry_violations(replay: Replay, job: JobHistory, change: Change, scenario: Scenario) -> Iterator[str]:
    assert change.before is not None
    before, now, name = change.before["status"], change.object["status"], change.object["metadata"]["name"]
    retry = change.before["spec"].get("retry") or {"limit": 0, "on": []}
    phases = before["phase"], now["phase"]
    if phases not in (("Preparing", "Pending"), ("Running", "Pending")):
        yield f"{name} was retried from {phases[0]} to {phases[1]}"
    if now["retried"] != before["retried"] + 1 or now["retried"] != len(job.retries) + 1:
        yield f"{name} counts {now['retried']} retries, but this is number {len(job.retries) + 1}"
    if now["retried"] > retry["limit"]:
        yield f"{name} was retried {now['retried']} times, but its limit is {retry['limit']}"
    causes = _causes(replay, before, scenario)
    if not causes & {*retry["on"]}:
        what = " or ".join(sorted(causes)) or "an end that nobody has seen"
        yield f"{name} was retried after {what}, but its user permits {', '.join(retry['on']) or 'none'}"
    backoff = seconds(now["requeueAfter"]) - change.at
    expected = BACKOFF_SECONDS[min(now["retried"], len(BACKOFF_SECONDS)) - 1]
    # pod-manager wrote the time before the write arrived.
    if (
        SERVICE_CLOCKS not in scenario.third_parties
        and not expected - 70 < backoff < expected + MAX_SKEW_SECONDS
    ):
        yield f"the backoff of {name} after retry {now['retried']} is {backoff:.0f} s, not {expected:.0f} s"
    if (attempts := now.get("attempts") or ()) and attempts[-1]["podUID"] != before.get("podUID"):
        yield f"the last attempt of {name} is {attempts[-1]}, but its pod was {before.get('podUID')}"
    if not attempts or len(attempts) > 5:
        yield f"{name} was retried, and has {len(attempts)} attempts"


def _failure_violations(replay: Replay, job: JobHistory, change: Change, scenario: Scenario) -> Iterator[str]:
    """Return a violation if the command failed, and its user permitted a retry for that."""
    assert change.before is not None
    spec, before = change.before["spec"], change.before["status"]
    retry = spec.get("retry") or {"limit": 0, "on": []}
    is_unwanted = spec.get("cancel") or "deletionTimestamp" in change.before["metadata"]
    if is_unwanted or before.get("retried", 0) >= retry["limit"]:
        return
    if change.object["status"]["reason"] == "OverActiveDeadline":
        return  # It may have been written while the container failed.
    if before.get("podUID") in replay.deletions:
        return  # The deletion may have come first.
    if _causes(replay, before, scenario) == {FAILURE} and FAILURE in retry["on"]:
        yield f"{change.object['metadata']['name']} failed, but had to be retried"


def _causes(replay: Replay, status: Object, scenario: Scenario) -> set[str]:
    """Return the causes that the last state of the named pod allows; none if it has not ended."""
    uid = status.get("podUID", "")
    pod, deletion = replay.last.get(uid), replay.deletions.get(uid)
    if pod is None or pod["status"]["phase"] != "Failed":
        return set()
    reasons = {condition["reason"] for condition in pod["status"].get("conditions") or ()}
    if "DeletionByPodGC" in reasons:
        return {NODE_LOST}
    if reasons:
        return {DISRUPTION}
    containers: Sequence[Object] = pod["status"].get("containerStatuses") or ()
    finished = next((c["state"].get("terminated", {}).get("finishedAt") for c in containers), None)
    if not finished:  # The command never started.
        return set()
    if status["reason"] == "NodeLost":
        return {NODE_LOST, FAILURE} if deletion else {FAILURE}
    if deletion is None or NODE_CLOCKS in scenario.third_parties:
        return {FAILURE}
    return {FAILURE} if seconds(finished) < deletion.at + MAX_SKEW_SECONDS else set()


def start_violations(replay: Replay, starts: Sequence[Start], ends: Mapping[str, float]) -> Iterator[str]:
    """Return each start of a command that nobody permitted, or beside an earlier run that had not ended.

    `starts` are those that the nodes recorded, and `ends` when the command of each pod ended. The machine of
    a node whose object is deleted counts as gone, as it does for Kubernetes.
    """
    of_job: dict[str, list[Start]] = {}
    for start in starts:
        earlier = of_job.setdefault(start.job, [])
        earlier.append(start)
        if len(earlier) == 1:
            continue
        job, last = replay.jobs[start.job], earlier[-2]
        permitted = sum(retry.at <= start.at for retry in job.retries)
        name = job.latest["metadata"]["name"]
        if len(earlier) > permitted + 1:
            yield f"{name} started again at {start.at:.1f} s in {start.pod}, after {last.pod}"
        conditions = replay.last[last.pod]["status"].get("conditions") or ()
        is_gone = any(condition["reason"] == "DeletionByPodGC" for condition in conditions)
        if not is_gone and ends.get(last.pod, start.at + 1) > start.at:
            yield f"{name} started again at {start.at:.1f} s in {start.pod}, beside {last.pod}"

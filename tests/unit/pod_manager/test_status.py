from typing import Any

from tests.unit.facts import START, a_job, a_pod, at

from pod_manager import status
from shared.lifecycle import Event, transition
from shared.messages import Admit, JobSeen, PodSeen
from shared.phjob import Phase, PodPhase


def written(patch: status.Patch) -> dict[str, Any]:
    return {op["path"].removeprefix("/status/"): op["value"] for op in patch if op["op"] == "add"}


def compared(patch: status.Patch) -> dict[str, Any]:
    return {op["path"]: op["value"] for op in patch if op["op"] == "test"}


def transit(job: JobSeen, event: Event, pod: PodSeen | None = None, message: str = "") -> status.Patch:
    change = transition(job.phase, event)
    assert change is not None
    return status.transit(job, event, change, message, pod, START)


def test_every_write_tests_the_job_the_phase_and_the_fence() -> None:
    """contract.md: the compare-and-swap of every transition."""
    job = a_job(phase=Phase.RUNNING, fence="s#1")
    patch = transit(job, Event.CANCELLED)
    assert compared(patch) == {
        "/metadata/uid": job.uid,
        "/status/phase": "Running",
        "/status/fence": "s#1",
    }


def test_an_admission_writes_all_that_a_successor_needs() -> None:
    """The fence of this admission, the resources in quantities, the place in the queue."""
    order = Admit(
        uid="u", name="job-1", group="g", fence="", token="s#1", revision=7, resources={"cpu": 500, "gpu": 2}
    )
    assert written(status.admit(order, START)) == {
        "phase": "Preparing",
        "reason": "Admitted",
        "message": "",
        "fence": "s#1",
        "revision": 7,
        "resources": {"cpu": "500m", "gpu": "2"},
        "podName": "job-1",
        "preparingTime": "2026-01-01T00:00:00Z",
    }


def test_settling_changes_nothing_but_the_fence_and_keeps_the_place() -> None:
    """Every older attempt at the admission fails from then on."""
    order = Admit(uid="u", name="j", group="g", fence="", token="s#1", revision=7, resources={})
    assert written(status.settle(order, "p!1")) == {"fence": "p!1", "revision": 7}


def test_times_are_the_containers_own() -> None:
    """contract.md, Lifecycle: also when the job was never seen Running."""
    job = a_job(phase=Phase.PREPARING)
    pod = a_pod(
        job, phase=PodPhase.SUCCEEDED, start_time=at(5), finish_time=at(6), exit_code=0, node="node-1"
    )
    assert written(transit(job, Event.POD_SUCCEEDED, pod, "exit code 0")) == {
        "phase": "Succeeded",
        "reason": "Completed",
        "message": "exit code 0",
        "nodeName": "node-1",
        "startTime": "2026-01-01T00:00:05Z",
        "finishTime": "2026-01-01T00:00:06Z",
        "exitCode": 0,
    }


def test_a_failed_containers_reason_is_the_jobs() -> None:
    """`OOMKilled` says more than `Error`."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled")
    assert written(transit(job, Event.POD_FAILED, pod))["reason"] == "OOMKilled"
    assert written(transit(job, Event.POD_FAILED, a_pod(job)))["reason"] == "Error"


def test_a_job_that_ends_without_a_pod_is_done_with_in_the_same_write() -> None:
    """Nothing is left to reclaim."""
    assert written(transit(a_job(), Event.CANCELLED))["reclaimed"] is True
    running = a_job(phase=Phase.RUNNING)
    assert "reclaimed" not in written(transit(running, Event.CANCELLED, a_pod(running)))


def test_a_requeue_counts_and_says_when_it_may_go_again() -> None:
    """Queueing 5."""
    first = written(transit(a_job(phase=Phase.PREPARING), Event.NOT_STARTED, message="late"))
    assert first == {"phase": "Pending", "reason": "Requeued", "message": "late", "requeued": 1}
    second = written(transit(a_job(phase=Phase.PREPARING, requeued=1), Event.POD_GONE))
    assert (second["requeued"], second["requeueAfter"]) == (2, "2026-01-01T00:00:30Z")


def test_a_requeue_over_the_limit_fails_the_job_and_says_why() -> None:
    """Queueing 5."""
    job = a_job(phase=Phase.PREPARING, requeued=2, requeue_limit=2)
    fields = written(transit(job, Event.NOT_STARTED, message="late"))
    assert (fields["phase"], fields["reason"], fields["reclaimed"]) == ("Failed", "OverRequeueLimit", True)
    assert fields["message"] == "requeued 2 times, which is its limit: late"


def test_what_others_said_is_cut_to_what_the_crd_takes() -> None:
    """Else the write could never succeed."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, reason="r" * 1000)
    fields = written(transit(job, Event.POD_FAILED, pod, "m" * 10000))
    assert (len(fields["reason"]), len(fields["message"])) == (128, 4096)

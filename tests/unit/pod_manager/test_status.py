from typing import Any

from tests.unit.facts import START, a_job, a_pod, at

from pod_manager import status
from pod_manager.plan import Transit
from shared.lifecycle import Event, Transition, transition
from shared.messages import Admit, JobSeen, PodSeen
from shared.phjob import Phase, PodPhase


def written(patch: status.Patch) -> dict[str, Any]:
    return {op["path"].removeprefix("/status/"): op["value"] for op in patch if op["op"] == "add"}


def compared(patch: status.Patch) -> dict[str, Any]:
    return {op["path"]: op["value"] for op in patch if op["op"] == "test"}


def transit(
    job: JobSeen, event: Event, pod: PodSeen | None = None, why: str = "", generation: int | None = None
) -> status.Patch:
    change = transition(job.phase, event)
    assert isinstance(change, Transition)
    return status.transit(job, Transit(event, why), change, pod, START, generation)


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


def test_a_confirmed_admission_voids_what_was_decided_on_its_having_no_pod() -> None:
    """Else a requeue that comes late would let a job run again while the pod of this admission runs."""
    job = a_job(phase=Phase.PREPARING, fence="s#1", preparing_time=START)
    requeue = transit(job, Event.POD_GONE)
    confirmed = written(status.confirm(job))
    assert confirmed == {"preparingTime": "2026-01-01T00:00:01Z"}
    assert compared(requeue)["/status/preparingTime"] == "2026-01-01T00:00:00Z"
    assert compared(status.confirm(job)) == compared(requeue)


def test_what_an_earlier_pod_said_is_void_with_a_confirmed_admission() -> None:
    """A pod that ended unstarted may be gone, and its successor run, when its requeue comes."""
    job = a_job(phase=Phase.PREPARING, fence="s#1", preparing_time=START)
    for event in (Event.POD_REJECTED, Event.POD_RUNNING):
        told = transit(job, event, a_pod(job))
        assert compared(told)["/status/preparingTime"] == "2026-01-01T00:00:00Z"


def test_a_command_that_came_to_its_end_has_whoever_confirmed_its_admission() -> None:
    """It is so, whenever it is written: it must not run again."""
    job = a_job(phase=Phase.PREPARING, fence="s#1", preparing_time=START)
    for event in (Event.POD_SUCCEEDED, Event.POD_FAILED):
        assert "/status/preparingTime" not in compared(transit(job, event, a_pod(job)))


def test_times_are_the_containers_own() -> None:
    """contract.md, Lifecycle: also when the job was never seen Running."""
    job = a_job(phase=Phase.PREPARING)
    pod = a_pod(
        job, phase=PodPhase.SUCCEEDED, start_time=at(5), finish_time=at(6), exit_code=0, node="node-1"
    )
    assert written(transit(job, Event.POD_SUCCEEDED, pod)) == {
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
    first = written(transit(a_job(phase=Phase.PREPARING), Event.NOT_STARTED, why="late"))
    assert first == {"phase": "Pending", "reason": "Requeued", "message": "late", "requeued": 1}
    second = written(transit(a_job(phase=Phase.PREPARING, requeued=1), Event.POD_GONE))
    assert (second["requeued"], second["requeueAfter"]) == (2, "2026-01-01T00:00:30Z")


def test_a_requeue_over_the_limit_fails_the_job_and_says_why() -> None:
    """Queueing 5."""
    job = a_job(phase=Phase.PREPARING, requeued=2, requeue_limit=2)
    fields = written(transit(job, Event.NOT_STARTED, why="late"))
    assert (fields["phase"], fields["reason"], fields["podName"]) == ("Failed", "OverRequeueLimit", "")
    assert fields["message"] == "requeued 2 times, which is its limit: late"


def test_what_others_said_is_cut_to_what_the_crd_takes() -> None:
    """Else the write could never succeed."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, reason="r" * 1000)
    fields = written(transit(job, Event.POD_FAILED, pod, "m" * 10000))
    assert (len(fields["reason"]), len(fields["message"])) == (128, 4096)


def test_a_time_out_tests_the_spec_that_it_was_decided_on() -> None:
    """A deadline that was lengthened a moment before is kept."""
    job = a_job(phase=Phase.RUNNING, generation=3)
    patch = transit(job, Event.OVER_DEADLINE, a_pod(job), "too long", generation=3)
    assert compared(patch)["/metadata/generation"] == 3
    assert "/metadata/generation" not in compared(transit(job, Event.OVER_DEADLINE, a_pod(job)))


def test_a_lost_node_is_told_in_the_seeds_words_and_the_job_goes_on() -> None:
    """Seed, FAQ: lost node. Its phase, its times and its pod stay."""
    job = a_job("job-1", phase=Phase.RUNNING, start_time=at(5))
    pod = a_pod(job, phase=PodPhase.RUNNING, start_time=at(5), node="node-1")
    assert written(transit(job, Event.NODE_LOST, pod)) == {
        "phase": "Running",
        "reason": "NodeLost",
        "message": "Node node-1 which was running pod job-1 is unresponsive",
        "nodeName": "node-1",
        "startTime": "2026-01-01T00:00:05Z",
    }
    assert written(transit(job, Event.NODE_BACK, pod))["reason"] == "Started"


def test_a_pod_that_was_deleted_while_it_ran_says_who_did_it() -> None:
    """Drained, preempted or by hand; the exit code of the killed container is kept."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=143, reason="Error")
    fields = written(transit(job, Event.POD_KILLED, pod, ": EvictionByEvictionAPI: evicting"))
    assert (fields["reason"], fields["exitCode"]) == ("PodDeleted", 143)
    assert fields["message"] == "its pod was deleted while it ran: EvictionByEvictionAPI: evicting"


def test_a_rejected_pod_is_requeued_with_its_reason_and_stands_until_it_is_deleted() -> None:
    """Over the limit, too: the pod is reclaimed later, not at once."""
    job = a_job(phase=Phase.PREPARING, requeue_limit=0)
    fields = written(transit(job, Event.POD_REJECTED, a_pod(job), "the pod failed (OutOfcpu)"))
    assert fields["reason"] == "OverRequeueLimit"
    assert "podName" not in fields


def test_an_archive_that_fails_is_told_once_and_taken_back_when_the_log_is_stored() -> None:
    """Behind what the job says anyway."""
    job = a_job(phase=Phase.SUCCEEDED, message="exit code 0")
    told = written(status.log_not_stored(job, "no such bucket"))
    assert told == {"message": "exit code 0; its log is not archived: no such bucket"}
    again = job.model_copy(update=told)
    assert written(status.log_not_stored(again, "no route")) == {
        "message": "exit code 0; its log is not archived: no route"
    }
    assert written(status.log_stored(again, "file:///x")) == {"logURL": "file:///x", "message": "exit code 0"}
    assert written(status.log_stored(job, "file:///x")) == {"logURL": "file:///x"}


def test_a_long_message_leaves_room_for_what_the_archive_said() -> None:
    """The CRD's bound is kept, and the end is not lost."""
    job = a_job(phase=Phase.FAILED, message="m" * 4096)
    message = written(status.log_not_stored(job, "w" * 9999))["message"]
    assert len(message) <= 4096
    assert message.endswith("w" * 512)

from typing import Any

import pytest
from tests.fakes.facts import START, a_job, a_pod, at

from phjob_core.api import Phase, PodPhase
from phjob_core.lifecycle import Event, Transition, transition
from phjob_core.messages import Admit, JobSeen, PodSeen, Reject, ReportGroupStatus, SetPendingReason
from phjob_core.retry import RetryCause
from phjob_core.steps import ApplyEvent
from phjob_pod_manager import status_patches

CREATED = at(-60)
RECONCILING = {
    "type": "Reconciling", "status": "True", "lastTransitionTime": "2025-12-31T23:59:00Z",
    "reason": "Admitted", "message": "",
}  # fmt: skip


OF_OTHER_TESTS = ("conditions", "observedGeneration", "attempts")


def written(patch: status_patches.Patch) -> dict[str, Any]:
    """Return the fields that a patch writes, without those that have tests of their own."""
    fields = all_written(patch)
    return {name: fields[name] for name in fields if name not in OF_OTHER_TESTS}


def all_written(patch: status_patches.Patch) -> dict[str, Any]:
    return {op["path"].removeprefix("/status/"): op["value"] for op in patch if op["op"] == "add"}


def conditions(patch: status_patches.Patch) -> dict[str, tuple[str, str, str]]:
    """Return the time, the reason and the message of each condition that a patch writes."""
    return {
        c["type"]: (c["lastTransitionTime"], c["reason"], c["message"])
        for c in all_written(patch).get("conditions", ())
        if c["status"] == "True"
    }


def compared(patch: status_patches.Patch) -> dict[str, Any]:
    return {op["path"]: op["value"] for op in patch if op["op"] == "test"}


def apply_event(
    job: JobSeen, event: Event, pod: PodSeen | None = None, detail: str = "", max_requeues: int = 0
) -> status_patches.Patch:
    change = transition(job.phase, event)
    assert isinstance(change, Transition)
    return status_patches.apply_event(job, ApplyEvent(event, detail), change, pod, START, max_requeues)


def test_every_write_tests_the_job_the_phase_and_the_fence() -> None:
    """spec.md, A5: the compare-and-swap of every transition."""
    job = a_job(phase=Phase.RUNNING, fence="s#1")
    patch = apply_event(job, Event.CANCELLED)
    assert compared(patch) == {
        "/metadata/uid": job.uid,
        "/status/phase": "Running",
        "/status/fence": "s#1",
    }


def test_a_write_to_a_job_of_primehub_tests_the_phase_that_is_stored() -> None:
    """It counts as Running, but its status says Unknown (spec.md, E9)."""
    job = a_job(phase=Phase.RUNNING, foreign_phase="Unknown")
    patches = [
        apply_event(job, Event.POD_VANISHED),
        status_patches.set_log_url(job, "s3://logs/1"),
        status_patches.set_archive_error(job, "full", "exit code 0"),
        status_patches.mark_reclaimed(job),
    ]
    assert [compared(patch)["/status/phase"] for patch in patches] == ["Unknown"] * 4


def test_an_admission_writes_all_that_a_successor_needs() -> None:
    """The token, the resources as quantities, and the revision, which keeps its position in the queue."""
    command = Admit(
        uid="u", name="job-1", group="g", fence="", token="s#1", revision=7, resources={"cpu": 500, "gpu": 2}
    )
    patch = status_patches.admit(command, "pod-1", START, status_patches.Observed(CREATED, generation=3))
    assert all_written(patch)["observedGeneration"] == 3
    assert all_written(patch)["conditions"] == [RECONCILING]
    assert written(patch) == {
        "phase": "Preparing",
        "reason": "Admitted",
        "message": "",
        "fence": "s#1",
        "revision": 7,
        "resources": {"cpu": "500m", "gpu": "2"},
        "podName": "job-1",
        "podUID": "pod-1",
        "preparingTime": "2026-01-01T00:00:00Z",
    }


OBSERVES = {"op": "copy", "from": "/metadata/generation", "path": "/status/observedGeneration"}
"""The operation that records the current generation, whatever it is."""


def test_the_end_of_a_job_is_a_condition_in_the_same_write() -> None:
    """The generation is that of the moment, because no edit changes the outcome any more (spec.md, A16)."""
    job = a_job(phase=Phase.RUNNING, created=CREATED, generation=2)
    succeeded = apply_event(job, Event.POD_SUCCEEDED, a_pod(job, phase=PodPhase.SUCCEEDED, exit_code=0))
    assert conditions(succeeded) == {"Complete": ("2026-01-01T00:00:00Z", "Completed", "exit code 0")}
    assert OBSERVES in succeeded
    cancelled = apply_event(job, Event.CANCELLED)
    end = ("2026-01-01T00:00:00Z", "Cancelled", "cancelled while it ran")
    assert conditions(cancelled) == {"Failed": end, "Stalled": end}
    rejected = status_patches.reject(
        Reject(uid="u", name="j", group="g", fence="", reason="OverQuota", message="too large"), START
    )
    assert conditions(rejected)["Failed"] == ("2026-01-01T00:00:00Z", "OverQuota", "too large")
    assert OBSERVES in rejected
    assert OBSERVES in status_patches.mark_reclaimed(job)


def test_a_job_reconciles_from_its_creation_until_its_end() -> None:
    """Also while it waits or was requeued; the generation is the one that the write was decided on."""
    job = a_job(phase=Phase.PREPARING, created=CREATED, generation=2)
    for event in (Event.POD_RUNNING, Event.START_TIMEOUT, Event.NODE_LOST):
        patch = apply_event(job, event, a_pod(job))
        assert conditions(patch).keys() == {"Reconciling"}
        assert conditions(patch)["Reconciling"][0] == "2025-12-31T23:59:00Z"
        assert all_written(patch)["observedGeneration"] == 2
        assert OBSERVES not in patch


def a_reason(reason: str, **fields: Any) -> SetPendingReason:
    return SetPendingReason(
        uid="u", name="j", group="g", fence="", reason=reason, message="m", revision=7, **fields
    )


def test_the_reason_why_a_job_waits_is_in_its_conditions() -> None:
    """A suspended job has a condition of its own, which the next reason removes."""
    suspended = status_patches.set_pending_reason(a_reason("Suspended", created=CREATED, generation=2), START)
    assert conditions(suspended) == {
        "Suspended": ("2026-01-01T00:00:00Z", "Suspended", "m"),
        "Reconciling": ("2025-12-31T23:59:00Z", "Suspended", "m"),
    }
    assert all_written(suspended)["observedGeneration"] == 2
    resumed = status_patches.set_pending_reason(a_reason("Queued", created=CREATED, generation=3), START)
    assert conditions(resumed).keys() == {"Reconciling"}


def test_a_command_of_an_older_scheduler_changes_no_condition() -> None:
    """It does not say when the job was created."""
    assert all_written(status_patches.set_pending_reason(a_reason("GroupQuota"), START)) == {
        "phase": "Pending", "reason": "GroupQuota", "message": "m", "revision": 7,
    }  # fmt: skip


def test_settling_replaces_the_fence_and_keeps_the_position_in_the_queue() -> None:
    """Every earlier attempt at the admission fails from then on."""
    command = Admit(uid="u", name="j", group="g", fence="", token="s#1", revision=7, resources={})
    assert written(status_patches.settle(command, "p!1")) == {"fence": "p!1", "revision": 7}


def test_a_job_whose_pod_cannot_be_created_waits_or_fails_and_its_command_is_spent() -> None:
    """A rejection requeues it, a pod that is ending delays it, and an invalid pod fails it (spec.md, Q10)."""
    command = Admit(uid="u", name="job-1", group="g", fence="f", token="s#1", revision=7, resources={})

    def write(event: Event, **job: Any) -> dict[str, Any]:
        change = transition(Phase.PENDING, event)
        assert isinstance(change, Transition)
        step = ApplyEvent(event, "detail")
        return written(status_patches.fail_admission(command, a_job(**job), step, change, START))

    spent = {"fence": "s#1", "revision": 7, "message": "detail"}
    rejected = write(Event.POD_CREATION_REJECTED)
    assert rejected == {**spent, "phase": "Pending", "reason": "Requeued", "requeued": 1, "podUID": ""}
    over = write(Event.POD_CREATION_REJECTED, requeue_limit=0)
    assert (over["phase"], over["reason"], over["reclaimed"]) == ("Failed", "OverRequeueLimit", True)
    not_yet = write(Event.POD_NOT_CREATABLE_YET)
    assert not_yet == {
        **spent, "phase": "Pending", "reason": "Queued", "requeueAfter": "2026-01-01T00:00:05Z",
    }  # fmt: skip
    invalid = write(Event.POD_INVALID)
    assert (invalid["phase"], invalid["reason"]) == ("Failed", "PodCreationFailed")


def test_times_are_the_containers_own() -> None:
    """spec.md, L5, L4: also when the job was never seen Running."""
    job = a_job(phase=Phase.PREPARING)
    pod = a_pod(
        job, phase=PodPhase.SUCCEEDED, start_time=at(5), finish_time=at(6), exit_code=0, node="node-1"
    )
    assert written(apply_event(job, Event.POD_SUCCEEDED, pod)) == {
        "phase": "Succeeded",
        "reason": "Completed",
        "message": "exit code 0",
        "podUID": pod.uid,
        "nodeName": "node-1",
        "startTime": "2026-01-01T00:00:05Z",
        "finishTime": "2026-01-01T00:00:06Z",
        "exitCode": 0,
    }


def test_a_failed_containers_reason_is_the_jobs() -> None:
    """`OOMKilled` is more specific than `Error`."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled")
    assert written(apply_event(job, Event.POD_FAILED, pod))["reason"] == "OOMKilled"
    assert written(apply_event(job, Event.POD_FAILED, a_pod(job)))["reason"] == "Error"


def test_a_job_that_ends_without_a_pod_is_reclaimed_in_the_same_write() -> None:
    """There is no pod to delete."""
    assert written(apply_event(a_job(), Event.CANCELLED))["reclaimed"] is True
    running = a_job(phase=Phase.RUNNING)
    assert "reclaimed" not in written(apply_event(running, Event.CANCELLED, a_pod(running)))


def test_a_requeue_is_counted_and_has_the_end_of_its_backoff() -> None:
    """spec.md, Q5."""
    first = written(apply_event(a_job(phase=Phase.PREPARING), Event.START_TIMEOUT, detail="late"))
    assert first == {
        "phase": "Pending", "reason": "Requeued", "message": "late", "requeued": 1, "podUID": "",
    }  # fmt: skip
    second = written(apply_event(a_job(phase=Phase.PREPARING, requeued=1), Event.POD_GONE_UNSTARTED))
    assert (second["requeued"], second["requeueAfter"]) == (2, "2026-01-01T00:00:30Z")


def test_the_status_of_a_group_has_quantities() -> None:
    """As an administrator writes them."""
    report = ReportGroupStatus(
        uid="u",
        name="g",
        group="g",
        place="1",
        used={"cpu": 500},
        default_limits={"ephemeral-storage": 2**30},
    )
    value = status_patches.set_group_status(report, "0")[-1]["value"]
    assert (value["used"], value["defaultLimits"]) == ({"cpu": "500m"}, {"ephemeral-storage": "1Gi"})


def test_a_requeue_over_the_limit_fails_the_job_with_the_reason() -> None:
    """spec.md, Q5."""
    job = a_job(phase=Phase.PREPARING, requeued=2, requeue_limit=2)
    fields = written(apply_event(job, Event.START_TIMEOUT, detail="late"))
    assert (fields["phase"], fields["reason"], fields["reclaimed"]) == ("Failed", "OverRequeueLimit", True)
    assert fields["message"] == "requeued 2 times, which is its limit: late"


@pytest.mark.parametrize(
    ("limit", "cap", "which"),
    [
        (None, 2, "the cap of jobSubmission.maxRequeues"),
        (3, 2, "the cap of jobSubmission.maxRequeues"),
        (2, 2, "its limit"),
        (2, 3, "its limit"),
        (2, 0, "its limit"),
    ],
)
def test_the_smaller_of_the_jobs_limit_and_the_cap_of_requeues_counts(
    limit: int | None, cap: int, which: str
) -> None:
    """The message says which of the two it was; a cap of 0 is none (spec.md, Q5)."""
    job = a_job(phase=Phase.PREPARING, requeued=2, requeue_limit=limit)
    fields = written(apply_event(job, Event.START_TIMEOUT, detail="late", max_requeues=cap))
    assert fields["reason"] == "OverRequeueLimit"
    assert fields["message"] == f"requeued 2 times, which is {which}: late"
    earlier = job.model_copy(update={"requeued": 1})
    assert written(apply_event(earlier, Event.START_TIMEOUT, max_requeues=cap))["requeued"] == 2


def test_the_cap_of_requeues_counts_for_a_job_whose_pod_cannot_be_created() -> None:
    """A policy may reject its pod each time (spec.md, Q5)."""
    command = Admit(uid="u", name="job-1", group="g", fence="f", token="s#1", revision=7, resources={})
    event = Event.POD_CREATION_REJECTED
    change = transition(Phase.PENDING, event)
    assert isinstance(change, Transition)
    step = ApplyEvent(event, "a policy")
    patch = status_patches.fail_admission(command, a_job(requeued=1), step, change, START, 1)
    assert written(patch)["message"] == (
        "requeued 1 times, which is the cap of jobSubmission.maxRequeues: a policy"
    )


def test_reasons_and_messages_of_other_programs_are_cut_to_the_crds_bounds() -> None:
    """Otherwise the API server would reject the write forever."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, reason="r" * 1000)
    fields = written(apply_event(job, Event.POD_FAILED, pod, "m" * 10000))
    assert (len(fields["reason"]), len(fields["message"])) == (128, 4096)


def test_a_time_out_tests_the_spec_that_it_was_decided_on() -> None:
    """A deadline that was extended a moment before stays in force (spec.md, L8)."""
    job = a_job(phase=Phase.RUNNING)
    change = transition(job.phase, Event.OVER_DEADLINE)
    assert isinstance(change, Transition)
    for value in (60, None):
        step = ApplyEvent(Event.OVER_DEADLINE, "too long", decided_on={"activeDeadlineSeconds": value})
        patch = status_patches.apply_event(job, step, change, a_pod(job), START)
        assert compared(patch)["/spec/activeDeadlineSeconds"] == value
    assert not any(path.startswith("/spec") for path in compared(apply_event(job, Event.OVER_DEADLINE)))


def test_a_reclaimed_job_keeps_its_message_unless_it_gets_another() -> None:
    """The other one says that a cap has shortened its TTL (spec.md, L10)."""
    job = a_job(phase=Phase.SUCCEEDED)
    assert written(status_patches.mark_reclaimed(job)) == {"reclaimed": True}
    message = "exit code 0; its pod was deleted"
    assert written(status_patches.mark_reclaimed(job, message)) == {"reclaimed": True, "message": message}


def test_the_message_about_a_lost_node_is_fixed_and_the_job_goes_on() -> None:
    """Its phase, its times and its pod stay (spec.md, L12)."""
    job = a_job("job-1", phase=Phase.RUNNING, start_time=at(5))
    pod = a_pod(job, phase=PodPhase.RUNNING, start_time=at(5), node="node-1")
    assert written(apply_event(job, Event.NODE_LOST, pod)) == {
        "phase": "Running",
        "reason": "NodeLost",
        "message": "Node node-1 which was running pod job-1 is unresponsive",
        "podUID": pod.uid,
        "nodeName": "node-1",
        "startTime": "2026-01-01T00:00:05Z",
    }
    assert written(apply_event(job, Event.NODE_BACK, pod))["reason"] == "Started"


def test_a_job_whose_pod_was_deleted_while_it_ran_names_the_disruption() -> None:
    """A drain, for example. The exit code of the killed container is kept."""
    job = a_job(phase=Phase.RUNNING)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=143, reason="Error")
    fields = written(apply_event(job, Event.POD_KILLED, pod, ": EvictionByEvictionAPI: evicting"))
    assert (fields["reason"], fields["exitCode"]) == ("PodDeleted", 143)
    assert fields["message"] == "its pod was deleted while it ran: EvictionByEvictionAPI: evicting"


def test_a_pod_that_failed_before_its_start_is_not_reclaimed_with_its_job() -> None:
    """It still exists, even if the job is over its limit."""
    job = a_job(phase=Phase.PREPARING, requeue_limit=0)
    fields = written(apply_event(job, Event.POD_FAILED_UNSTARTED, a_pod(job), "the pod failed (OutOfcpu)"))
    assert fields["reason"] == "OverRequeueLimit"
    assert "reclaimed" not in fields


def test_an_archive_error_is_in_the_message_until_the_log_is_stored() -> None:
    """It follows the message of the job's end."""
    job = a_job(phase=Phase.SUCCEEDED)
    failed = written(status_patches.set_archive_error(job, "no such bucket", "exit code 0"))
    assert failed == {"message": "exit code 0; its log is not archived: no such bucket"}
    assert written(status_patches.set_archive_error(job, "no route", failed["message"])) == {
        "message": "exit code 0; its log is not archived: no route"
    }
    assert written(status_patches.set_log_url(job, "file:///x", failed["message"])) == {
        "logURL": "file:///x",
        "message": "exit code 0",
    }
    assert written(status_patches.set_log_url(job, "file:///x")) == {"logURL": "file:///x"}


def test_a_long_message_is_cut_to_leave_room_for_the_archive_error() -> None:
    """The message keeps the CRD's bound, and its end is the error."""
    job = a_job(phase=Phase.FAILED)
    message = written(status_patches.set_archive_error(job, "w" * 9999, "m" * 4096))["message"]
    assert len(message) <= 4096
    assert message.endswith("w" * 512)


def test_no_text_in_a_status_can_control_a_terminal() -> None:
    """`kubectl get -o wide` prints it, and it may end in a user's log (spec.md, A4)."""
    job = a_job(phase=Phase.RUNNING)
    hostile = "exit code 1:\n\tline\x1b]0;t\x07\u202e"
    shown = "exit code 1:\n\tline\\u001b]0;t\\u0007\\u202e"
    pod = a_pod(job, phase=PodPhase.FAILED, reason="OOM\x1b[2J", exit_code=1, start_time=START)
    fields = written(apply_event(job, Event.POD_FAILED, pod, hostile))
    assert (fields["reason"], fields["message"]) == ("OOM\\u001b[2J", shown)
    report = ReportGroupStatus(uid="u", name="n", group="g", place="1", message=hostile)
    (status,) = written(status_patches.set_group_status(report, "")).values()
    assert status["message"] == shown


def test_an_admission_records_what_few_jobs_have_only_if_they_have_it() -> None:
    """The resource of `limits.gpu`, and what the cluster adds to the pod."""
    command = Admit(
        uid="u", name="j", group="g", fence="", token="t", revision=7, resources={"example.com/x": 2},
        gpu_resource="example.com/x", overhead={"memory": 2**20},
    )  # fmt: skip
    observed = status_patches.Observed(CREATED, generation=1)
    fields = written(status_patches.admit(command, "pod-1", START, observed))
    assert (fields["gpuResource"], fields["overhead"]) == ("example.com/x", {"memory": "1Mi"})
    assert written(status_patches.set_overhead({"cpu": 1})) == {"overhead": {"cpu": "1m"}}
    assert status_patches.set_overhead({}) == []


def test_the_status_of_a_group_names_the_patterns_of_gpus_if_there_are_any() -> None:
    """The command line counts with them, too."""
    report = ReportGroupStatus(uid="u", name="g", group="g", place="1", gpu_resource_names=("example.com/*",))
    assert status_patches.set_group_status(report, "0")[-1]["value"]["gpuResourceNames"] == ["example.com/*"]
    report = report.model_copy(update={"gpu_resource_names": ()})
    assert "gpuResourceNames" not in status_patches.set_group_status(report, "0")[-1]["value"]


def retry(job: JobSeen, event: Event, pod: PodSeen, cause: RetryCause) -> status_patches.Patch:
    change = transition(job.phase, event)
    assert isinstance(change, Transition)
    step = ApplyEvent(event, "exit code 1 (Error)", retry=cause)
    return status_patches.apply_event(job, step, change, pod, START)


def test_a_retry_returns_the_job_to_its_queue_with_a_backoff() -> None:
    """It keeps its fence, so that its place is that of a job which was admitted before (spec.md, L17)."""
    job = a_job(phase=Phase.RUNNING, retry_limit=3, retried=1, start_time=at(-9), requeued=4, created=CREATED)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=1, start_time=at(-9), reason="Error")
    patch = retry(job, Event.POD_FAILED, pod, RetryCause.FAILURE)
    assert written(patch) == {
        "phase": "Pending",
        "reason": "Retried",
        "message": "retry 2 of 3 (Failure): exit code 1 (Error)",
        "retried": 2,
        "podUID": "",
        "requeueAfter": "2026-01-01T00:01:00Z",
    }
    assert {"op": "remove", "path": "/status/startTime"} in patch
    assert conditions(patch).keys() == {"Reconciling"}
    assert "/metadata/generation" not in compared(patch)


def test_a_retry_tests_that_its_user_has_not_edited_the_job_since() -> None:
    """A permission that was withdrawn a moment before counts (spec.md, L17)."""
    job = a_job(phase=Phase.RUNNING, retry_limit=1, generation=3)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=1)
    assert compared(retry(job, Event.POD_FAILED, pod, RetryCause.FAILURE))["/metadata/generation"] == 3
    assert "/metadata/generation" not in compared(apply_event(job, Event.POD_FAILED, pod))


def test_a_requeue_tests_that_nobody_has_edited_or_deleted_the_job_since() -> None:
    """Its user may have cancelled it a moment before (spec.md, Q5)."""
    job = a_job(phase=Phase.PREPARING, generation=3)
    assert compared(apply_event(job, Event.START_TIMEOUT, None))["/metadata/generation"] == 3
    unknown = a_job(phase=Phase.PREPARING)
    assert "/metadata/generation" not in compared(apply_event(unknown, Event.START_TIMEOUT, None))


def test_a_retry_of_a_job_that_was_not_seen_running_removes_no_start() -> None:
    """A JSON Patch that removes what is not there fails."""
    job = a_job(phase=Phase.PREPARING, retry_limit=1)
    pod = a_pod(job, phase=PodPhase.FAILED, exit_code=1, start_time=at(-9))
    patch = retry(job, Event.POD_FAILED, pod, RetryCause.FAILURE)
    assert not any(op["op"] == "remove" for op in patch)


def attempts(patch: status_patches.Patch) -> list[tuple[str, str, Any]]:
    return [(op["op"], op["path"], op.get("value")) for op in patch if "/attempts" in op["path"]]


ENTRY = {
    "podUID": "pod-of-uid-job-1", "nodeName": "node-1", "startTime": "2025-12-31T23:59:51Z",
    "finishTime": "2025-12-31T23:59:58Z", "exitCode": 137, "reason": "OOMKilled",
}  # fmt: skip


@pytest.mark.parametrize("cause", [None, RetryCause.FAILURE])
def test_the_write_that_ends_an_attempt_describes_it(cause: RetryCause | None) -> None:
    """With the container's own times, exit code and reason, whether the job is retried or not."""
    job = a_job(phase=Phase.RUNNING, retry_limit=3, start_time=at(-9))
    pod = a_pod(
        job, phase=PodPhase.FAILED, exit_code=137, start_time=at(-9), finish_time=at(-2), reason="OOMKilled",
        node="node-1",
    )  # fmt: skip
    patch = (
        retry(job, Event.POD_FAILED, pod, cause) if cause else apply_event(job, Event.POD_FAILED, pod, "x")
    )
    assert attempts(patch) == [("add", "/status/attempts", [ENTRY])]


def test_the_last_five_attempts_stay() -> None:
    """The number in the status decides, and the compare-and-swap protects it."""

    def paths(before: int) -> list[str]:
        job = a_job(phase=Phase.RUNNING, attempts=before)
        return [f"{op} {path}" for op, path, _ in attempts(apply_event(job, Event.CANCELLED, a_pod(job)))]

    assert paths(1) == ["add /status/attempts/-"]
    assert paths(4) == ["add /status/attempts/-"]
    assert paths(5) == ["remove /status/attempts/0", "add /status/attempts/-"]


def test_only_the_end_of_an_attempt_describes_one() -> None:
    """A job that ends while it waits has none, and neither has a start or a lost node."""
    assert attempts(apply_event(a_job(), Event.CANCELLED)) == []
    job = a_job(phase=Phase.PREPARING)
    assert attempts(apply_event(job, Event.POD_RUNNING, a_pod(job))) == []
    assert attempts(apply_event(job, Event.NODE_LOST, a_pod(job))) == []


def test_an_attempt_whose_pod_is_gone_has_what_the_job_knows() -> None:
    """Its end is the time of the write."""
    job = a_job(phase=Phase.RUNNING, pod_uid="p", node="node-1", start_time=at(-9))
    ((_, _, entries),) = attempts(apply_event(job, Event.POD_VANISHED))
    assert entries == [
        {
            "podUID": "p", "nodeName": "node-1", "startTime": "2025-12-31T23:59:51Z",
            "finishTime": "2026-01-01T00:00:00Z", "reason": "PodDeleted",
        },
    ]  # fmt: skip
    waiting = a_job(phase=Phase.PREPARING, pod_uid="p", node="of an earlier attempt")
    ((_, _, entries),) = attempts(apply_event(waiting, Event.POD_GONE_UNSTARTED))
    assert entries == [{"podUID": "p", "finishTime": "2026-01-01T00:00:00Z", "reason": "Requeued"}]


def test_the_log_of_an_attempt_is_described_with_it_or_added_to_it() -> None:
    """A requeue stores the log before its write, every other end after it (spec.md, L14)."""
    url = "file:///logs/escaped-phusers/job-1/uid-job-1/attempt-2.log"
    job = a_job(phase=Phase.PREPARING, requeued=1, log_url=url)
    ((_, _, (entry,)),) = attempts(apply_event(job, Event.START_TIMEOUT, a_pod(job, attempt=2)))
    assert entry["logURL"] == url
    later = a_job(phase=Phase.PREPARING, requeued=2, log_url=url)
    ((_, _, (entry,)),) = attempts(apply_event(later, Event.START_TIMEOUT, a_pod(later, attempt=3)))
    assert "logURL" not in entry
    ended = a_job(phase=Phase.FAILED, attempts=3)
    assert attempts(status_patches.set_log_url(ended, url)) == [("add", "/status/attempts/2/logURL", url)]
    assert attempts(status_patches.set_log_url(a_job(phase=Phase.PREPARING, attempts=3), url)) == []
    assert attempts(status_patches.set_log_url(a_job(phase=Phase.FAILED), url)) == []

from typing import Any

import pytest
from tests.fakes.facts import START, at
from tests.fakes.objects import a_phjob_object, a_pod_object, an_object

from phjob_core.api import GATE, REQUEUE_FINALIZER, Phase, PodPhase
from phjob_core.messages import encode
from phjob_core.projection import (
    gate_index,
    job_uid,
    pod_message,
    project_job,
    project_job_with_message,
    project_pod,
)


def test_a_jobs_projection_has_the_fields_that_decide_and_never_the_command() -> None:
    """Secrets must not reach the broker."""
    item = a_phjob_object(
        phase="Preparing",
        resources={"cpu": "500m", "memory": "1Gi"},
        preparingTime="2026-01-01T00:00:05Z",
    )
    item["spec"] |= {"cancel": True, "requeueLimit": 0}
    seen = project_job(item)
    assert (seen.phase, seen.cancel, seen.requeue_limit) == (Phase.PREPARING, True, 0)
    assert (seen.created, seen.preparing_time) == (START, at(5))
    assert seen.resources == {"cpu": 500, "memory": 1024**3}
    assert b"secret" not in encode(seen)[1]


def test_a_job_without_a_status_is_pending() -> None:
    """No service writes a status before the first decision."""
    item = a_phjob_object()
    del item["status"]
    seen = project_job(item)
    assert (seen.phase, seen.fence, seen.requeued, seen.deleting) == (Phase.PENDING, "", 0, False)


def test_a_job_that_primehub_has_lost_counts_as_running() -> None:
    """Its command may have started. A write has to test the phase that is stored (spec.md, E9)."""
    seen = project_job(a_phjob_object(phase="Unknown", reason="PodUnknown"))
    assert (seen.phase, seen.foreign_phase, seen.reason) == (Phase.RUNNING, "Unknown", "PodUnknown")
    assert project_job(a_phjob_object(phase="Running")).foreign_phase == ""


def test_a_job_without_a_user_is_readable() -> None:
    """PrimeHub 3 did not require one (spec.md, E9)."""
    item = a_phjob_object()
    del item["spec"]["userName"]
    assert project_job(item).user == ""


@pytest.mark.parametrize(
    ("status", "has_one"),
    [
        ({}, False),
        ({"reason": "Queued", "revision": 40}, False),
        ({"reason": "OverQuota", "message": "Insufficient group quota"}, True),
        ({"reason": "Queued", "message": "Insufficient group quota"}, True),
        ({"reason": "InvalidSpec", "message": "group 'x' does not exist", "revision": 40}, True),
        ({"phase": "Running", "reason": "PodRunning"}, False),
    ],
)
def test_a_job_has_a_pending_reason_if_somebody_has_let_it_wait(
    status: dict[str, Any], *, has_one: bool
) -> None:
    """PrimeHub's controller, or an earlier session of the scheduler (spec.md, Q4)."""
    assert project_job(a_phjob_object(**status)).has_pending_reason is has_one


def test_a_jobs_revision_is_the_recorded_one_otherwise_the_first_seen_otherwise_its_own() -> None:
    """Jobs that were created in one second keep their order (spec.md, Q1)."""
    assert project_job(a_phjob_object()).revision == 42
    assert project_job(a_phjob_object(), 40).revision == 40
    recorded = project_job(a_phjob_object(revision=7), 40)
    assert (recorded.revision, recorded.revision_recorded) == (7, True)


def test_another_programs_revision_makes_no_job_newer_than_its_object() -> None:
    """Otherwise the job would be newer than any catalog, and would be looked up in it forever."""
    assert project_job(a_phjob_object(revision=2**53 - 1)).revision == 42


def test_a_time_that_python_cannot_represent_counts_as_none() -> None:
    """Kubernetes accepts the year 0 in a status."""
    seen = project_job(
        a_phjob_object(
            phase="Running", startTime="0000-01-01T00:00:00Z", preparingTime="9999-12-31T23:59:59Z"
        )
    )
    assert seen.start_time is None
    assert seen.preparing_time
    assert seen.preparing_time.year == 9999


def a_container_status(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "main", "state": state}]}


def test_a_pods_times_and_exit_code_are_those_of_its_main_container() -> None:
    """A sidecar's end is not the end of the job."""
    terminated = {
        "exitCode": 3,
        "reason": "Error",
        "startedAt": "2026-01-01T00:00:01Z",
        "finishedAt": "2026-01-01T00:00:02Z",
    }
    statuses = [{"name": "proxy", "state": {}}, {"name": "main", "state": {"terminated": terminated}}]
    seen = project_pod(a_pod_object({"phase": "Failed", "containerStatuses": statuses}))
    assert (seen.phase, seen.exit_code, seen.reason) == (PodPhase.FAILED, 3, "Error")
    assert (seen.start_time, seen.finish_time) == (at(1), at(2))


def test_a_container_that_never_started_has_no_start_time() -> None:
    """Containerd reports the start of 1970 for it."""
    terminated = {
        "exitCode": 128,
        "reason": "StartError",
        "startedAt": "1970-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:05Z",
    }
    seen = project_pod(a_pod_object({"phase": "Failed", **a_container_status(terminated=terminated)}))
    assert (seen.start_time, seen.finish_time) == (None, at(5))


@pytest.mark.parametrize(
    "status",
    [
        a_container_status(waiting={"reason": "R", "message": "M"}),
        {"reason": "R", "message": "M"},
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "R", "message": "M"}]},
    ],
    ids=["container", "kubelet", "kube-scheduler"],
)
def test_a_pods_reason_comes_from_the_first_component_that_gives_one(status: dict[str, Any]) -> None:
    """The reason and the message end in the job's status."""
    pod = a_pod_object(status)
    assert (project_pod(pod).reason, pod_message(pod)) == ("R", "M")


def test_a_long_message_is_cut() -> None:
    """A message that is too long for the job's status would make every write of it fail."""
    assert len(pod_message(a_pod_object({"reason": "R", "message": "x" * 5000}))) == 1024


def test_the_end_of_a_containers_last_words_is_kept() -> None:
    """A traceback ends with its error (spec.md, L4)."""
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "x" * 5000 + "ValueError"}}
    message = pod_message(a_pod_object({"containerStatuses": [{"name": "main", "state": ended}]}))
    assert len(message) == 2048
    assert message.endswith("xValueError")


def test_a_pod_without_a_status_has_no_message() -> None:
    """The kubelet has not reported it yet."""
    assert pod_message(a_pod_object()) == ""


def test_only_the_message_of_a_pending_job_is_part_of_the_fact() -> None:
    """That of an ended job may quote its log, which must not reach the broker (spec.md, E7)."""
    waiting = a_phjob_object(phase="Pending", message="user quota: ...")
    assert project_job(waiting).message == "user quota: ..."
    for phase in ("Preparing", "Running", "Succeeded", "Failed", "Cancelled"):
        item = a_phjob_object(phase=phase, message="exit code 1 (Error): password=x")
        assert project_job(item).message == ""
        assert project_job_with_message(item).message == "exit code 1 (Error): password=x"


def test_an_error_of_the_log_archive_is_part_of_the_fact_without_its_text() -> None:
    """pod-manager removes it from the message once the log is stored (spec.md, L14)."""
    message = "exit code 0; its log is not archived: no such bucket"
    assert project_job(a_phjob_object(phase="Succeeded", message=message)).log_failed
    assert not project_job(a_phjob_object(phase="Succeeded", message="exit code 0")).log_failed


def an_owner(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "primehub.io/v1alpha1",
        "kind": "PhJob",
        "name": "job-1",
        "controller": True,
        "uid": "job",
        **fields,
    }


def test_a_pod_belongs_to_the_phjob_that_controls_it() -> None:
    """Kubernetes deletes it with its job."""
    item = a_pod_object(ownerReferences=[an_owner(controller=False, uid="other"), an_owner()])
    assert job_uid(item) == "job"
    seen = project_pod(item)
    assert (seen.job_uid, seen.orphaned) == ("job", False)


OURS = {"primehub.io/phjob": "job-1", "primehub.io/phjob-uid": "job"}


def test_a_pod_that_has_lost_its_owner_belongs_to_the_job_in_its_labels() -> None:
    """Somebody has deleted its job without it (spec.md, L16)."""
    item = a_pod_object(labels={"primehub.io/group": "escaped-g", **OURS})
    assert job_uid(item) == "job"
    seen = project_pod(item)
    assert (seen.job_uid, seen.orphaned) == ("job", True)


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"primehub.io/group": "escaped-g"}},
        {"labels": {"primehub.io/phjob-uid": "job"}},
        {"labels": OURS, "name": "a-copy"},
        {"labels": OURS, "ownerReferences": [an_owner(kind="ReplicaSet", apiVersion="apps/v1")]},
        {"labels": OURS, "ownerReferences": [an_owner(name="another")]},
    ],
    ids=["a notebook", "no name", "a copy", "of a ReplicaSet", "of another job"],
)
def test_a_pod_without_all_marks_is_no_orphan(metadata: dict[str, Any]) -> None:
    """It must not be deleted as one."""
    seen = project_pod(a_pod_object(**metadata))
    assert (seen.job_uid, seen.orphaned) == ("", False)


@pytest.mark.parametrize(
    "difference",
    [{"controller": False}, {"kind": "Job"}, {"apiVersion": "batch/v1"}, {"name": "another"}],
    ids=lambda difference: next(iter(difference)),
)
def test_any_other_pod_belongs_to_no_job(difference: dict[str, Any]) -> None:
    """A notebook, a pod of another controller, or one that has not its job's name."""
    assert project_pod(a_pod_object(ownerReferences=[an_owner(**difference)])).job_uid == ""


def test_a_pod_with_absurd_times_and_numbers_is_still_counted() -> None:
    """A user may request a grace period of ten thousand years, or write the annotations."""
    odd = {
        "deletionTimestamp": "0001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 99_999_999_999,
        "annotations": {"primehub.io/attempt": "9" * 5000},
    }
    state = {"terminated": {"startedAt": "0000-01-01T00:00:00Z", "finishedAt": "0000-01-01T00:00:00Z"}}
    seen = project_pod(a_pod_object(a_container_status(**state), **odd))
    assert (seen.deleting, seen.attempt, seen.start_time, seen.finish_time) == (True, 1, None, None)


def test_a_pods_deletion_was_requested_before_its_grace_period() -> None:
    """Kubernetes writes the end of the grace period."""
    item = a_pod_object(deletionTimestamp="2026-01-01T00:00:40Z", deletionGracePeriodSeconds=30)
    assert project_pod(item).deleted_at == at(10)
    assert project_pod(a_pod_object()).deleted_at is None


def test_a_disruption_has_its_reason_and_message() -> None:
    """The user reads why Kubernetes ended the pod (spec.md, L7)."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "for a better one",
    }
    seen = project_pod(a_pod_object({"conditions": [condition]}))
    assert seen.disruption == "PreemptionByScheduler: for a better one"
    past = {**condition, "status": "False"}
    assert project_pod(a_pod_object({"conditions": [past]})).disruption == ""


def test_a_pod_that_its_kubelet_ended_at_its_deadline_has_that_deadline() -> None:
    """The state of its container has the signal only."""
    status = a_container_status(terminated={"exitCode": 137, "reason": "Error"})
    item = a_pod_object({**status, "phase": "Failed", "reason": "DeadlineExceeded"})
    item["spec"]["activeDeadlineSeconds"] = 60
    assert project_pod(item).exceeded_deadline == 60
    other = a_pod_object({**status, "phase": "Failed"})
    other["spec"]["activeDeadlineSeconds"] = 60
    assert project_pod(other).exceeded_deadline == 0


def test_our_gate_and_our_finalizer_are_recognized_among_others() -> None:
    """Admission plugins add gates and finalizers of their own."""
    item = a_pod_object(finalizers=["example.com/other", REQUEUE_FINALIZER])
    item["spec"]["schedulingGates"] = [{"name": "example.com/other"}, {"name": GATE}]
    seen = project_pod(item)
    assert (seen.gated, seen.held) == (True, True)
    assert gate_index(item) == 1


def test_a_pod_without_them_has_neither() -> None:
    """A pod that was ungated may start."""
    seen = project_pod(a_pod_object())
    assert (seen.gated, seen.held) == (False, False)
    assert gate_index(an_object(spec={})) is None


def test_a_job_and_its_pod_name_the_resource_that_is_a_gpu() -> None:
    """Only a job's pod may: a notebook's user could set the annotation (spec.md, S3)."""
    annotations = {"primehub.io/gpu-resource": "example.com/x"}
    owner = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "name": "job-1", "uid": "j"}
    pod = a_pod_object(annotations=annotations, ownerReferences=[{**owner, "controller": True}])
    assert project_pod(pod).gpu_resource == "example.com/x"
    assert project_pod(a_pod_object(annotations=annotations)).gpu_resource == ""
    job = project_job(a_phjob_object(gpuResource="example.com/x", overhead={"cpu": "250m"}))
    assert (job.gpu_resource, job.overhead) == ("example.com/x", {"cpu": 250})


@pytest.mark.parametrize("key", ["on", "true"])
def test_the_permission_to_retry_may_have_either_key(key: str) -> None:
    """YAML 1.1 takes `on:` without quotes for true (spec.md, L17)."""
    item = a_phjob_object(retried=1, attempts=[{"podUID": "p"}])
    item["spec"]["retry"] = {"limit": 2, key: ["Failure", "NodeLost"]}
    job = project_job(item)
    assert (job.retry_limit, job.retry_on) == (2, ("Failure", "NodeLost"))
    assert (job.retried, job.attempts) == (1, 1)
    plain = project_job(a_phjob_object())
    assert (plain.retry_limit, plain.retry_on, plain.retried, plain.attempts) == (0, (), 0, 0)

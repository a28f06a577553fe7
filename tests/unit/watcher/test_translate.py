from typing import Any

import pytest
from tests.unit.facts import START, at

from shared.phjob import Phase, PodPhase
from shared.projection import job_seen, pod_seen
from watcher.translate import UntranslatableError, group, guarded, image, instance_type, node, record


def an_object(name: str = "x", **parts: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "42",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, **parts}


PHJOB = an_object(
    "job-1",
    spec={
        "command": "secret",
        "userName": "bob",
        "groupName": "phusers",
        "image": "i",
        "instanceType": "t",
        "cancel": True,
    },
    status={
        "phase": "Preparing",
        "resources": {"cpu": "500m", "memory": "1Gi"},
        "preparingTime": "2026-01-01T00:00:05Z",
    },
)


def test_a_jobs_projection_holds_what_decides_and_never_the_command() -> None:
    """Secrets stay out of the broker."""
    seen = job_seen(PHJOB)
    assert (seen.phase, seen.cancel, seen.created, seen.preparing_time) == (
        Phase.PREPARING,
        True,
        START,
        at(5),
    )
    assert seen.resources == {"cpu": 500, "memory": 1024**3}
    assert "secret" not in seen.model_dump_json()


def test_a_jobs_revision_is_the_one_noted_else_the_first_seen_else_its_own() -> None:
    """Queueing 1: jobs created in one second keep their order."""
    assert job_seen(PHJOB).revision == 42
    assert job_seen(PHJOB, 40).revision == 40
    noted = {**PHJOB, "status": {"revision": 7}}
    assert job_seen(noted, 40).revision == 7


def a_pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    pod = an_object("pod", spec={"containers": []}, status=status)
    pod["metadata"] |= {"labels": {"primehub.io/group": "escaped-g"}, **metadata}
    return pod


def test_a_pods_times_and_exit_code_are_those_of_its_main_container() -> None:
    """Not of a sidecar."""
    terminated = {
        "exitCode": 3,
        "reason": "Error",
        "startedAt": "2026-01-01T00:00:01Z",
        "finishedAt": "2026-01-01T00:00:02Z",
    }
    statuses = [{"name": "proxy", "state": {}}, {"name": "main", "state": {"terminated": terminated}}]
    seen = pod_seen(a_pod({"phase": "Failed", "containerStatuses": statuses}))
    assert (seen.phase, seen.exit_code, seen.reason) == (PodPhase.FAILED, 3, "Error")
    assert (seen.start_time, seen.finish_time) == (at(1), at(2))


@pytest.mark.parametrize(
    "status",
    [
        {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "R", "message": "M"}}}]},
        {"reason": "R", "message": "M"},
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "R", "message": "M"}]},
    ],
    ids=["container", "kubelet", "kube-scheduler"],
)
def test_a_pod_that_does_not_start_says_why_in_whosever_words_there_are(status: dict[str, Any]) -> None:
    """They end in the job's status."""
    seen = pod_seen(a_pod(status))
    assert (seen.reason, seen.message) == ("R", "M")


def test_a_pod_belongs_to_the_phjob_that_controls_it_and_to_nothing_else() -> None:
    """A Jupyter pod, one of another controller, or one that has not its job's name, is nobody's job."""
    name = a_pod({})["metadata"]["name"]
    owner = {
        "apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "name": name, "controller": True, "uid": "job",
    }  # fmt: skip
    assert pod_seen(a_pod({}, ownerReferences=[owner])).job_uid == "job"
    others = {"controller": False, "kind": "Job", "apiVersion": "batch/v1", "name": "another"}
    for key, value in others.items():
        assert not pod_seen(a_pod({}, ownerReferences=[{**owner, key: value}])).job_uid


def test_a_pod_with_absurd_times_and_numbers_is_still_counted() -> None:
    """Anybody may ask for a grace of ten thousand years, or write the annotations."""
    odd = {
        "deletionTimestamp": "0001-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 99_999_999_999,
        "annotations": {"primehub.io/attempt": "9" * 5000},
    }
    state = {"terminated": {"startedAt": "0000-01-01T00:00:00Z", "finishedAt": "0000-01-01T00:00:00Z"}}
    seen = pod_seen(a_pod({"containerStatuses": [{"name": "main", "state": state}]}, **odd))
    assert (seen.deleting, seen.attempt, seen.start_time, seen.finish_time) == (True, 1, None, None)


def test_a_time_that_cannot_be_is_none() -> None:
    """Kubernetes takes the year 0 in a status."""
    status = {
        "phase": "Running",
        "startTime": "0000-01-01T00:00:00Z",
        "preparingTime": "9999-12-31T23:59:59Z",
    }
    seen = job_seen({**PHJOB, "status": status})
    assert seen.start_time is None
    assert seen.preparing_time
    assert seen.preparing_time.year == 9999


def test_a_revision_that_others_wrote_makes_no_job_newer_than_it_is() -> None:
    """Else it would be newer than any catalog, and looked for in it for ever."""
    assert job_seen({**PHJOB, "status": {"revision": 2**53 - 1}}).revision == 42


def test_a_group_is_called_by_its_group_name_else_by_its_objects() -> None:
    """contract.md, PhGroup; memory 4G means 4Gi."""
    seen = group(an_object("g", spec={"groupName": "R & D", "groupQuota": {"memory": "4G", "cpu": 2}}))
    assert (seen.name, seen.group) == ("g", "R & D")
    assert seen.group_quota == {"memory": 4 * 1024**3, "cpu": 2000}
    assert group(an_object("g")).group == "g"


def test_no_list_of_users_means_anyone_and_an_empty_one_nobody() -> None:
    """contract.md, PhGroup."""
    assert group(an_object(spec={})).users is None
    assert group(an_object(spec={"users": []})).users == ()


def test_an_instance_types_gpus_go_by_their_resource_name() -> None:
    """contract.md, InstanceType."""
    spec = {"limits.cpu": 0.5, "limits.memory": "1G", "limits.gpu": 2, "gpuResourceName": "amd.com/gpu"}
    assert instance_type(an_object(spec=spec)).limits == {
        "cpu": 500,
        "memory": 1024**3,
        "amd.com/gpu": 2,
    }
    assert instance_type(an_object(spec={"limits.gpu": 1})).limits == {"nvidia.com/gpu": 1}


def test_a_malformed_quantity_makes_the_instance_type_unusable_by_name() -> None:
    """Its jobs fail with this text; nobody else's do."""
    seen = instance_type(an_object(spec={"limits.cpu": "lots"}))
    assert seen.invalid == "limits.cpu: 'lots' is not a quantity (write for example 2, 500m or 4Gi)"


def test_an_image_without_a_url_is_unusable() -> None:
    """Nothing could be run."""
    assert image(an_object(spec={})).invalid == "it has no url"
    assert not image(an_object(spec={"url": "x"})).invalid


def test_an_object_without_what_must_be_there_is_named() -> None:
    """It is skipped; the others go on."""
    with pytest.raises(UntranslatableError, match="PhJob odd: KeyError: 'spec'"):
        guarded(job_seen, {**an_object("odd"), "kind": "PhJob"})


def test_a_node_is_lost_while_kubernetes_does_not_know_whether_it_is_ready() -> None:
    """`NotReady` with a kubelet that still speaks is not lost."""
    since = "2026-01-01T00:00:05Z"
    for status, lost in (("True", None), ("False", None), ("Unknown", at(5))):
        ready = {"type": "Ready", "status": status, "lastTransitionTime": since}
        other = {"type": "DiskPressure", "status": "Unknown", "lastTransitionTime": since}
        item = an_object("node-1", status={"conditions": [other, ready]})
        assert node(item).lost_since == lost
    assert node(an_object("node-1")).lost_since is None


def test_a_record_says_when_its_job_finished() -> None:
    """One that does not say it counts from its creation."""
    item = {**PHJOB, "status": {"phase": "Failed", "finishTime": "2026-01-01T00:00:09Z"}}
    assert record(item).finish_time == at(9)
    assert record({**PHJOB, "status": {"phase": "Failed"}}).finish_time == START


def a_running_pod(metadata: dict[str, Any], **status: Any) -> dict[str, Any]:
    item = an_object("job-1", spec={"containers": []}, status=status)
    item["metadata"] |= {"labels": {"primehub.io/group": "g"}, **metadata}
    return item


def test_a_pods_deletion_was_asked_for_before_its_grace_began() -> None:
    """Kubernetes writes when it is to be over."""
    item = a_running_pod({"deletionTimestamp": "2026-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30})
    assert pod_seen(item).deleted_at == at(10)
    assert pod_seen(a_running_pod({})).deleted_at is None


def test_a_pod_says_who_disrupts_it() -> None:
    """Kubernetes, Pod disruption conditions."""
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    seen = pod_seen(a_running_pod({}, conditions=[{**condition, "message": "for a better one"}]))
    assert seen.disruption == "PreemptionByScheduler: for a better one"


def test_a_container_that_never_started_has_no_times() -> None:
    """Containerd says 1970 then."""
    terminated = {"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z"}
    state = {"name": "main", "state": {"terminated": {**terminated, "finishedAt": "2026-01-01T00:00:05Z"}}}
    seen = pod_seen(a_running_pod({}, phase="Failed", containerStatuses=[state]))
    assert (seen.start_time, seen.finish_time) == (None, at(5))

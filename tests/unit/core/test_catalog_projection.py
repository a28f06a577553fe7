from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.facts import START, a_job, a_pod, at
from tests.fakes.objects import a_phjob_object, an_object

from phjob_core.api import PodPhase
from phjob_core.catalog_projection import (
    ProjectionError,
    pod_usage,
    project_dataset,
    project_default_limits,
    project_gpu_resource_names,
    project_group,
    project_image,
    project_instance_type,
    project_node,
    project_or_raise,
    project_record,
)
from phjob_core.gpus import GpuResources
from phjob_core.messages import encode
from phjob_core.projection import project_job


def test_a_groups_default_limits_are_those_that_the_scheduler_has_reported() -> None:
    """The command line counts with them, too."""
    status = {"defaultLimits": {"ephemeral-storage": "10Gi"}}
    assert project_default_limits(an_object(status=status)) == {"ephemeral-storage": 10 * 2**30}
    assert project_default_limits(an_object()) == {}


def test_a_group_may_have_a_security_profile_of_its_own() -> None:
    """Empty means the setting's (spec.md, P10)."""
    assert project_group(an_object(spec={"securityProfile": "sudo"})).security_profile == "sudo"
    assert project_group(an_object()).security_profile == ""


def test_a_groups_name_is_its_group_name_otherwise_the_objects() -> None:
    """Memory of 4G in a quota means 4Gi (spec.md, A6, S2)."""
    seen = project_group(
        an_object("g", spec={"groupName": "R & D", "groupQuota": {"memory": "4G", "cpu": 2}})
    )
    assert (seen.name, seen.group) == ("g", "R & D")
    assert seen.group_quota == {"memory": 4 * 1024**3, "cpu": 2000}
    assert project_group(an_object("g")).group == "g"


def test_a_star_means_every_user_and_an_empty_list_nobody() -> None:
    """Both are what an administrator has written (spec.md, A6)."""
    assert project_group(an_object(spec={"users": ["*"]})).users is None
    assert project_group(an_object(spec={"users": ["bob", "*"]})).users is None
    empty = project_group(an_object(spec={"users": []}))
    assert (empty.users, empty.invalid) == ((), "")


def test_a_group_without_users_admits_nobody_and_says_what_to_do() -> None:
    """The API server has stored such PhGroups before it required `users` (spec.md, A6)."""
    seen = project_group(an_object(spec={"groupQuota": {"cpu": "lots"}}))
    assert seen.users == ()
    quota, _, users = seen.invalid.partition("; ")
    assert quota.startswith("groupQuota.cpu: 'lots'")
    assert users == (
        "spec.users is missing, so no user may submit; "
        'set it to the names of the users, or to ["*"] for every user'
    )


@pytest.mark.parametrize("item", [an_object("everyone"), an_object("e", spec={"groupName": "everyone"})])
def test_everyone_needs_no_users(item: dict[str, Any]) -> None:
    """No job can be submitted to it (spec.md, A7)."""
    seen = project_group(item)
    assert (seen.users, seen.invalid) == (None, "")


def test_a_group_has_its_time_of_creation() -> None:
    """Of two with one name, the older one counts (spec.md, A13)."""
    assert project_group(an_object()).created == START


def test_a_limit_of_something_that_is_no_resource_makes_the_instance_type_unusable() -> None:
    """Its name would get into messages, and the API server would reject the pod."""
    seen = project_instance_type(an_object(spec={"limits.cpu": 1, "limits.\x1b[2J": 1}))
    assert seen.invalid == "limits.'\\x1b[2J' is not the name of a resource"
    assert seen.limits == {"cpu": 1000}


def test_a_quota_of_null_is_no_quota() -> None:
    """PrimeHub writes null for an unlimited resource."""
    seen = project_group(an_object("g", spec={"groupQuota": {"gpu": None, "cpu": 2}, "users": []}))
    assert seen.group_quota == {"cpu": 2000}
    assert not seen.invalid


def test_an_instance_types_gpus_count_under_their_resource_name() -> None:
    """The default is Nvidia's (spec.md, A8)."""
    spec = {"limits.cpu": 0.5, "limits.memory": "1G", "limits.gpu": 2, "gpuResourceName": "amd.com/gpu"}
    assert project_instance_type(an_object(spec=spec)).limits == {
        "cpu": 500,
        "memory": 1024**3,
        "amd.com/gpu": 2,
    }
    for name in ({}, {"gpuResourceName": ""}):
        seen = project_instance_type(an_object(spec={"limits.gpu": 1, **name}))
        assert (seen.limits, seen.gpu_resource) == ({"nvidia.com/gpu": 1}, "nvidia.com/gpu")
    literal = {"limits.gpu": 1, "gpuResourceName": "example.com/x", "limits.example.com/x": 3}
    assert project_instance_type(an_object(spec=literal)).limits == {"example.com/x": 1}
    assert project_instance_type(an_object(spec={"limits.nvidia.com/gpu": 1})).gpu_resource == ""


def test_a_groups_names_of_gpus_are_those_that_the_scheduler_has_reported() -> None:
    """The command line counts with them, too."""
    status = {"gpuResourceNames": ["example.com/*"]}
    assert project_gpu_resource_names(an_object(status=status)) == ("example.com/*",)
    assert project_gpu_resource_names(an_object()) == ()


def test_a_malformed_quantity_makes_the_instance_type_unusable_by_name() -> None:
    """Its jobs fail with this text, and other jobs do not."""
    seen = project_instance_type(an_object(spec={"limits.cpu": "lots"}))
    assert seen.invalid == "limits.cpu: 'lots' is not a quantity (write for example 2, 500m or 4Gi)"


def test_a_malformed_request_makes_the_instance_type_unusable_too() -> None:
    """Otherwise the API server would reject every pod of its jobs, one requeue after the other."""
    seen = project_instance_type(an_object(spec={"limits.cpu": 1, "requests.memory": "some"}))
    assert seen.invalid.startswith("requests.memory: 'some' is not a quantity")


def test_an_image_without_a_url_is_unusable() -> None:
    """The pod would have no image to run."""
    assert project_image(an_object(spec={})).invalid == "it has no url"
    assert not project_image(an_object(spec={"url": "x"})).invalid


def test_an_object_without_a_required_field_is_named() -> None:
    """The watcher skips it and logs its name; the other objects go on."""
    with pytest.raises(ProjectionError, match="PhJob odd: KeyError: 'spec'"):
        project_or_raise(project_job, {**an_object("odd"), "kind": "PhJob"})


def test_a_node_is_lost_while_its_condition_ready_is_unknown() -> None:
    """A node that is not ready, but whose kubelet responds, is not lost (spec.md, L12)."""
    since = "2026-01-01T00:00:05Z"
    for status, lost in (("True", None), ("False", None), ("Unknown", at(5))):
        ready = {"type": "Ready", "status": status, "lastTransitionTime": since}
        other = {"type": "DiskPressure", "status": "Unknown", "lastTransitionTime": since}
        item = an_object("node-1", status={"conditions": [other, ready]})
        assert project_node(item).lost_since == lost
    assert project_node(an_object("node-1")).lost_since is None


def test_a_finished_job_counts_from_its_finish_time_otherwise_from_its_creation() -> None:
    """Another program may have written a final phase without a time."""
    item = a_phjob_object(phase="Failed", finishTime="2026-01-01T00:00:09Z")
    assert project_record(item)[0].finish_time == at(9)
    assert project_record(a_phjob_object(phase="Failed"))[0].finish_time == START


def test_a_record_has_its_group_and_whether_it_was_never_admitted() -> None:
    """A job that was never admitted has a shorter life (spec.md, L11)."""
    rejected = a_phjob_object(phase="Failed", fence="")
    ended = a_phjob_object(phase="Failed", preparingTime="2026-01-01T00:00:01Z", fence="s#1")
    record, never_ran = project_record(rejected)
    assert (record.group, record.name, never_ran) == ("phusers", rejected["metadata"]["name"], True)
    record, never_ran = project_record(ended)
    assert (record.fence, never_ran) == ("s#1", False)


def test_a_groups_limits_are_those_of_its_spec() -> None:
    """An absent limit of pending jobs is that of the settings; 0 is no limit (spec.md, Q11, L8)."""
    plain = project_group(an_object(spec={}))
    assert (plain.max_pending, plain.max_pending_per_user) == (None, None)
    assert plain.preparing_timeout_seconds is None
    assert plain.max_active_deadline_seconds == 0
    limits = {"maxPending": 0, "maxPendingPerUser": 5, "maxActiveDeadlineSeconds": 60}
    assert project_group(an_object(spec={"preparingTimeoutSeconds": 9})).preparing_timeout_seconds == 9
    seen = project_group(an_object(spec=limits))
    assert (seen.max_pending, seen.max_pending_per_user, seen.max_active_deadline_seconds) == (0, 5, 60)


def test_a_dataset_has_no_content() -> None:
    """Its variables may be secrets, which must not reach the broker."""
    seen = project_dataset(an_object("d", spec={"type": "env", "variables": {"KEY": "secret"}}))
    assert seen.name == "d"
    assert b"secret" not in encode(seen)[1]


@pytest.mark.parametrize("project", [project_group, project_image, project_instance_type, project_dataset])
def test_an_object_that_a_finalizer_keeps_counts_until_it_is_gone(project: Callable[[Any], Any]) -> None:
    """As a ConfigMap does that a pod names (spec.md, Q9)."""
    kept = an_object(spec={"url": "busybox", "limits.cpu": 1, "users": ["bob"]})
    before = project(kept)
    kept["metadata"] |= {"deletionTimestamp": "2026-01-01T00:01:00Z", "finalizers": ["example.com/hold"]}
    assert project(kept) == before


def name_of(label: str) -> str:
    return label.removeprefix("escaped-")


def test_the_usage_of_a_group_is_the_sum_of_its_pods_that_have_not_ended() -> None:
    """Jobs and notebooks share a pool (spec.md, Q3)."""
    job = a_job()
    pods = [
        a_pod(job, uid="one"),
        a_pod(job, uid="two", job_uid="", phase=PodPhase.RUNNING),
        a_pod(job, uid="three", phase=PodPhase.FAILED),
    ]
    assert pod_usage(pods, name_of, GpuResources()) == {
        "phusers": {"cpu": 2000, "nvidia.com/gpu": 2, "gpu": 2}
    }


def test_a_group_whose_pods_have_all_ended_uses_nothing() -> None:
    """It is still listed, so that its metric becomes 0."""
    pod = a_pod(a_job(), phase=PodPhase.SUCCEEDED)
    assert pod_usage([pod], name_of, GpuResources()) == {"phusers": {}}

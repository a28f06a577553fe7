"""Objects that no user should create: each of them affects no other object, and no service.

Jobs of another group run in each test, and succeed. No service restarts, resyncs, fails to process a message
or dead-letters one. Objects that are not PhJob's are left alone.
"""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import ApiError
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type, an_object
from tests.support.cluster import SERVICES, Cluster, Object
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from phjob_core.labels import GROUP_LABEL, JOB_UID_LABEL, USER_LABEL

END_OF_TIME = "9999-12-31T23:59:59Z"
BEGINNING_OF_TIME = "0000-01-01T00:00:00Z"
MAX_INT32 = 2**31 - 1
ERROR_COUNTERS = (
    "phjob_messages_dead_lettered_total",
    "phjob_handler_failures_total",
    "phjob_worker_failures_total",
)
"""The metrics in which a service counts what it cannot process."""


class UnaffectedGroup:
    """A group without hostile objects. Its quota is for one job at a time."""

    def __init__(self, cluster: Cluster, state: Path) -> None:
        self._cluster, self._state = cluster, state
        self._group = GroupFixture(cluster, "unaffected", {"groupQuota": {"gpu": 1}}).create()
        self._numbers = itertools.count()
        self._jobs: list[str] = []
        self._pids = {name: cluster.service(name).pid for name in SERVICES}
        self._errors = self._count_errors()
        self._resyncs = self._count_resyncs()

    def submit(self) -> None:
        """Submit one more job."""
        number = next(self._numbers)
        self._jobs.append(self._group.submit(f"unaffected-{number}", gpus=1, run_for="0.2s"))

    def check(self) -> None:
        """Check that the group's jobs succeed, and that no service restarted, resynced or failed."""
        for _ in range(3):
            self.submit()
        for name in self._jobs:
            assert self._cluster.wait_for_phase(name, "Succeeded")["requeued"] == 0
        assert {name: self._cluster.service(name).pid for name in SERVICES} == self._pids
        assert self._count_errors() == self._errors
        assert self._count_resyncs() == self._resyncs

    def _count_errors(self) -> dict[str, float]:
        """Return each error counter that is not 0, by its service, name and labels."""
        return {
            f"{service} {name} {labels}": count
            for service in SERVICES
            for name in ERROR_COUNTERS
            for labels, count in samples(self._state, service, name).items()
            if count
        }

    def _count_resyncs(self) -> dict[str, float]:
        """Return the number of snapshots that each service has requested."""
        return {
            service: sum(samples(self._state, service, "phjob_resyncs_total").values())
            for service in SERVICES
        }


@pytest.fixture
def unaffected(cluster: Cluster, local_stack: LocalStack) -> Iterator[UnaffectedGroup]:
    """A group that is checked at the end of the test."""
    unaffected = UnaffectedGroup(cluster, local_stack.state)
    unaffected.submit()
    yield unaffected
    unaffected.check()


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """The group with the hostile objects."""
    return GroupFixture(cluster, "odd", {"groupQuota": {"gpu": 2}}).create()


def a_pod(name: str, labels: Object, **metadata: Any) -> Object:
    """Return a pod that does not come from PhJob. It runs forever."""
    pod = a_notebook(name, group="any", user="any")
    pod["metadata"] = {"name": name, "labels": labels, **metadata}
    return pod


def owner_metadata(uid: str, name: str, **fields: Any) -> Object:
    """Return the metadata of a pod that names a job as its controller."""
    owner = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "name": name, "uid": uid}
    return {"ownerReferences": [{**owner, "controller": True, **fields}]}


# --- pods that do not come from PhJob ---


def test_pods_that_resemble_a_jobs_pod_are_left_alone(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """They have PhJob's labels, but no owner, another owner, or nonsensical labels and annotations."""
    group_label = {GROUP_LABEL: group.name}
    ours = {**group_label, USER_LABEL: "bob", "app": "primehub-job"}
    nonsense = {
        "primehub.io/fence": "\u00e9\u4e2d\u6587" * 100,
        "primehub.io/attempt": "9" * 5000,
        "primehub.io/usage": "{" * 1000,
    }
    config = cluster.api.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": cluster.unique_name("owner")}}
    )
    owned_by_config = owner_metadata(
        config["metadata"]["uid"], cluster.unique_name("owner"), apiVersion="v1", kind="ConfigMap"
    )
    pods = cluster.create(
        a_pod(cluster.unique_name("no-owner"), {**ours, JOB_UID_LABEL: "12345"}),
        a_pod(cluster.unique_name("foreign"), ours, **owned_by_config),
        a_pod(cluster.unique_name("no-user"), group_label),
        a_pod(cluster.unique_name("empty"), {GROUP_LABEL: "", USER_LABEL: ""}),
        a_pod(cluster.unique_name("nonsense"), {**ours, JOB_UID_LABEL: "A_._a"}, annotations=nonsense),
    )
    job = group.submit("job", gpus=1)
    cluster.wait_for_phase(job, "Succeeded")
    unaffected.check()
    for name in pods:
        pod = cluster.api.get("Pod", name)
        assert pod, f"pod {name} must be left alone; it was deleted"
        assert "deletionTimestamp" not in pod["metadata"], f"pod {name} must be left alone"
    cluster.api.delete("ConfigMap", cluster.unique_name("owner"))


def test_a_pod_with_the_largest_limits_fills_only_its_own_group(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """It is charged like every pod of the group, so the group's jobs wait with a reason (spec.md, Q3)."""
    limits = {"nvidia.com/gpu": "9223372036854775807", "cpu": "9223372036854775", "memory": "8Ei"}
    pod = a_notebook(cluster.unique_name("everything"), group=group.name, user="bob", **limits)
    cluster.create(pod)
    job = group.submit("job", gpus=1)
    cluster.wait_for_reason(job, "GroupQuota", "9223372036854775807 of 2 used")
    unaffected.check()
    cluster.api.delete("Pod", cluster.unique_name("everything"))
    cluster.wait_for_phase(job, "Succeeded")


def test_pods_that_name_a_job_as_their_owner_do_not_affect_it(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """Its own pod runs on and stays charged. PhJob leaves the other pods to Kubernetes."""
    job = group.submit("job", gpus=2, run_for=FOREVER)
    cluster.wait_for_phase(job, "Running")
    uid = cluster.job(job).uid
    labels = {GROUP_LABEL: group.name, USER_LABEL: "bob", JOB_UID_LABEL: uid}
    cluster.create(
        a_pod(cluster.unique_name("false-1"), labels, **owner_metadata(uid, job)),
        a_pod(
            cluster.unique_name("false-2"),
            labels,
            **owner_metadata(uid, job),
            annotations={"primehub.io/fence": "x"},
        ),
        a_pod(cluster.unique_name("false-3"), labels, **owner_metadata(uid, cluster.unique_name("false-3"))),
    )
    cluster.tampered_jobs |= {cluster.unique_name(f"false-{number}") for number in (1, 2, 3)}
    behind = group.submit("behind", gpus=1)
    cluster.wait_for_reason(behind, "GroupQuota", "gpu 2 of 2 used")
    unaffected.check()
    assert cluster.status(job)["phase"] == "Running"
    for name in ("false-1", "false-2"):
        assert cluster.api.get("Pod", cluster.unique_name(name)), f"pod {name} must be left alone"
    cluster.cancel(job)
    cluster.wait_for_phase(behind, "Succeeded")


def test_a_job_whose_name_a_foreign_pod_has_fails(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """The pod has no owner, or names another job or another kind as its owner."""
    for number, metadata in enumerate(
        (
            {},
            owner_metadata("1234", "another"),
            owner_metadata("1234", cluster.unique_name("taken-2"), kind="Job"),
        )
    ):
        name = cluster.unique_name(f"taken-{number}")
        cluster.create(a_pod(name, {GROUP_LABEL: "elsewhere"}, finalizers=["example.com/hold"], **metadata))
        job = group.submit(f"taken-{number}", gpus=1)
        status = cluster.wait_for_phase(job, "Failed")
        assert status["reason"] == "PodCreationFailed"
        assert "is taken by another" in status["message"]
        cluster.api.merge_patch("Pod", name, {"metadata": {"finalizers": []}})
    unaffected.check()
    cluster.wait_for_phase(group.submit("free", gpus=2), "Succeeded")


def test_a_pod_with_a_huge_grace_period_affects_no_job(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """Everybody who may delete a pod can give it one."""
    name = group.start_notebook("slow", gpus=1)
    eventually(lambda: (pod := cluster.pod(name)) and pod.phase == "Running", f"pod {name} runs")
    cluster.api.merge_patch("Pod", name, {"metadata": {"finalizers": ["example.com/hold"]}})
    for seconds in ("99999999999", "9223372036854775807"):
        cluster.api.delete("Pod", name, gracePeriodSeconds=seconds)
    job = group.submit("job", gpus=1)
    cluster.wait_for_phase(job, "Succeeded")
    unaffected.check()
    cluster.api.merge_patch("Pod", name, {"metadata": {"finalizers": []}})


# --- a status that another client writes ---

Status = dict[str, Any]
FOREIGN_STATUSES: dict[str, Status] = {
    "running-without-a-pod": {"phase": "Running"},
    "preparing-without-an-admission": {"phase": "Preparing"},
    "preparing-since-year-0": {"phase": "Preparing", "preparingTime": BEGINNING_OF_TIME, "fence": "x"},
    "preparing-until-year-9999": {"phase": "Preparing", "preparingTime": END_OF_TIME, "fence": "x"},
    "preparing-with-huge-resources": {
        "phase": "Preparing", "fence": "x", "resources": {"cpu": "1e999999999", "nvidia.com/gpu": "9" * 60},
    },
    "preparing-with-nonsense": {"phase": "Preparing", "fence": "x", "resources": {"cpu": "lots", "a": -1}},
    "running-until-year-9999": {"phase": "Running", "startTime": END_OF_TIME, "podName": "kube-proxy"},
    "running-since-year-0": {"phase": "Running", "startTime": BEGINNING_OF_TIME, "nodeName": "nowhere"},
    "succeeded-in-year-9999": {"phase": "Succeeded", "finishTime": END_OF_TIME},
    "failed-without-a-time": {"phase": "Failed", "exitCode": -(2**31), "logURL": "x" * 4096},
    "cancelled-with-a-foreign-pod": {"phase": "Cancelled", "podName": "notebook", "reclaimed": False},
    "requeued-too-often": {
        "requeued": MAX_INT32, "phase": "Preparing", "fence": "x", "resources": {"cpu": "1"},
    },
    "backoff-until-year-9999": {"requeueAfter": END_OF_TIME},
    "with-the-highest-revision": {"revision": 2**53 - 1},
    "with-a-token-of-wide-characters": {"fence": "\u4e2d" * 128},
    "with-a-long-message": {"reason": "x" * 128, "message": "\u0000\n" * 2000, "fence": "x" * 128},
    "reclaimed-before-its-start": {"reclaimed": True},
}  # fmt: skip
UNCHANGED = {
    "preparing-with-huge-resources",
    "preparing-with-nonsense",
    "backoff-until-year-9999",
    "reclaimed-before-its-start",
}
"""The statuses that stay as written: they are invalid, or they keep their jobs from being considered."""
WITHOUT_POD = {"preparing-since-year-0", "preparing-until-year-9999", "requeued-too-often"}
"""The statuses of an admission without a pod, as of a release before 0.1, which created the pod afterwards.

Such a job waits for its pod until its start timeout or its cancellation.
"""
RUNNABLE = {"with-the-highest-revision", "with-a-long-message"}
"""The statuses that do not keep their jobs from running."""


def test_a_job_whose_status_another_client_wrote_ends_with_a_reason_or_waits(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """The statuses contradict themselves, have absurd values, or name a foreign pod."""
    notebook = group.start_notebook("notebook", gpus=2)  # It keeps all jobs waiting.
    waiting = {case: group.submit(case, gpus=1, requeueLimit=1) for case in FOREIGN_STATUSES}
    cluster.wait_for_reason(waiting["running-without-a-pod"], "GroupQuota")
    written = []
    for case, job in waiting.items():
        with suppress(ApiError):  # The API server rejects some of them.
            cluster.tampered_jobs.add(job)
            cluster.api.merge_patch("PhJob", job, {"status": FOREIGN_STATUSES[case]}, subresource="status")
            written.append(case)
    assert len(written) > len(FOREIGN_STATUSES) / 2
    unaffected.check()
    assert cluster.api.get("Pod", notebook)
    cluster.api.delete("Pod", notebook)
    for case in WITHOUT_POD & {*written}:
        cluster.api.merge_patch("PhJob", waiting[case], {"spec": {"cancel": True}})
    for case, job in waiting.items():
        if case in UNCHANGED and case in written:
            continue
        status = cluster.wait_for_phase(job, "Succeeded", "Failed", "Cancelled")
        if case in RUNNABLE or case not in written:
            assert status["phase"] == "Succeeded", f"{case} must succeed; it is {status}"
        assert status["reason"], f"{case} must have a reason; it is {status}"
    unaffected.check()
    cluster.wait_for_phase(group.submit("behind", gpus=2), "Succeeded")


# --- a catalog with huge numbers and long names ---


def test_an_instance_type_with_impossible_limits_fails_only_its_own_jobs(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """The message names the instance type, and is short. Large but valid limits exceed the quota."""
    huge: dict[str, Object] = {
        "fpga": {"limits.example.com/fpga": "1e999999999"},
        "digits": {"limits.example.com/fpga": "9" * 100_000},
        "exponent": {"limits.example.com/fpga": "1e99999999999999999999"},
        "float": {"limits.example.com/fpga": 1e300},
        "nested": {"limits.example.com/fpga": {"a": ["b"]}},
        "negative": {"limits.example.com/fpga": "-1e999999999"},
        "request": {"requests.ephemeral-storage": "1e999999999"},
    }
    types = {
        case: cluster.create(an_instance_type(cluster.unique_name(case), spec))[0]
        for case, spec in huge.items()
    }
    group.grant(instance_types=tuple(types.values()))
    for case, name in types.items():
        status = cluster.wait_for_phase(group.submit(case, instanceType=name), "Failed")
        assert status["reason"] in ("InvalidSpec", "PodCreationFailed"), f"{case}: {status}"
        assert name in status["message"], f"{case}: the message must name the instance type: {status}"
        assert len(status["message"]) < 500, f"{case}: the message must be short"
    (largest,) = cluster.create(
        an_instance_type(
            cluster.unique_name("largest"),
            {"limits.cpu": 1000000, "limits.memory": "1E", "limits.gpu": 1000000},
        )
    )
    group.grant(instance_types=(largest,))
    assert (
        cluster.wait_for_phase(group.submit("largest", instanceType=largest), "Failed")["reason"]
        == "OverQuota"
    )
    unaffected.check()


def is_accepted(cluster: Cluster, manifest: Object) -> bool:
    """Create an object. Returns whether the API server accepted it."""
    with suppress(ApiError):
        cluster.create(manifest)
        return True
    return False


def test_a_group_with_an_impossible_quota_affects_no_other_group(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """The API server rejects the quota, or the group's jobs fail with a reason, or the quota is large."""
    for number, amount in enumerate(
        ("1e999999999", "9" * 30, "-1", "1e-999999999", 2**63 - 1, 0, "0.000001")
    ):
        for key in ("cpu", "memory", "gpu", "example.com/fpga"):
            group_name = cluster.unique_name(f"quota-{number}-{key.rpartition('/')[2]}")
            types = [group._types[0]]
            spec = {"images": [group.image], "instanceTypes": types, "groupQuota": {key: amount}}
            if is_accepted(cluster, a_group(group_name, **spec)):
                job = group.submit(f"in-{number}-{key.rpartition('/')[2]}", group=group_name)
                status = cluster.wait_for_phase(job, "Succeeded", "Failed")
                assert status["reason"] in ("Completed", "InvalidSpec", "OverQuota")
    unaffected.check()


def test_jobs_with_names_of_maximal_length_run(
    cluster: Cluster, group: GroupFixture, unaffected: UnaffectedGroup
) -> None:
    """The names of groups, users, images, instance types and jobs may be in any script."""
    wide = "\u4e2d\u6587 \U0001f680 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 a.b_c"
    group_name = (wide * 20)[: 255 - 7] + f"-{cluster.test_id}"
    users = ["\u4e2d" * 255, "x" * 255, "a b", "-_.-", "\u200devil", "e\u0301", "\u00e9"]
    image, kind = (
        f"{cluster.unique_name(case)}-" + "x" * (253 - len(cluster.unique_name(case)) - 1)
        for case in ("i", "t")
    )
    cluster.create(an_image(image), an_instance_type(kind))
    spec = {"groupName": group_name, "users": ["*"], "images": [image], "instanceTypes": [kind]}
    cluster.create(an_object("PhGroup", cluster.unique_name("wide"), spec))
    jobs = []
    for number, user in enumerate(users):
        name = f"{cluster.unique_name(f'n{number}')}-" + "x" * 63
        job = a_job(
            name[:63],
            group=group_name,
            user=user,
            image=image,
            instanceType=kind,
            displayName="\U0001f680" * 255,
        )
        jobs += cluster.create(job)
    for name in jobs:
        cluster.wait_for_phase(name, "Succeeded")
    unaffected.check()

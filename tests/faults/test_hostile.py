"""Objects that break our assumptions, each thrown at services that are at work: it harms only itself.

Ordinary jobs of other groups run meanwhile and all succeed; no service starts over, fails at a message or
buries one; what others have made is left alone.
"""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import ApiError
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type, an_object
from tests.support.hub import SERVICES, Hub, Object
from tests.support.metrics import samples
from tests.support.scene import FOREVER, Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from shared.labels import GROUP_LABEL, JOB_UID_LABEL, USER_LABEL

END_OF_TIME = "9999-12-31T23:59:59Z"
BEGINNING_OF_TIME = "0000-01-01T00:00:00Z"
MOST = 2**31 - 1
COMPLAINTS = (
    "phjob_messages_buried_total",
    "phjob_handler_failures_total",
    "phjob_pod_manager_lane_failures_total",
)
"""What a service counts when it meets what it can't handle."""


class Bystanders:
    """Groups that have nothing to do with it: one job after the other of each, with a quota for one."""

    def __init__(self, hub: Hub, state: Path) -> None:
        self._hub, self._state = hub, state
        self._scene = Scene(hub, "innocent", {"groupQuota": {"gpu": 1}}).make()
        self._numbers = itertools.count()
        self._jobs: list[str] = []
        self._pids = {name: hub.service(name).pid for name in SERVICES}
        self._complaints = self._complained()
        self._sessions = self._asked()

    def submit(self) -> None:
        """One more job."""
        number = next(self._numbers)
        self._jobs.append(self._scene.submit(f"innocent-{number}", gpus=1, run_for="0.2s"))

    def are_well(self) -> None:
        """All their jobs succeed, and the services did not even notice anything."""
        for _ in range(3):
            self.submit()
        for name in self._jobs:
            assert self._hub.reaches(name, "Succeeded")["requeued"] == 0
        assert {name: self._hub.service(name).pid for name in SERVICES} == self._pids
        assert self._complained() == self._complaints
        assert self._asked() == self._sessions

    def _complained(self) -> dict[str, float]:
        return {
            f"{service} {name} {labels}": count
            for service in SERVICES
            for name in COMPLAINTS
            for labels, count in samples(self._state, service, name).items()
            if count
        }

    def _asked(self) -> dict[str, float]:
        """Sessions: a service that starts over asks anew."""
        return {
            service: sum(samples(self._state, service, "phjob_sessions_total").values())
            for service in SERVICES
        }


@pytest.fixture
def bystanders(hub: Hub, local_stack: LocalStack) -> Iterator[Bystanders]:
    """They are well before, and afterwards."""
    bystanders = Bystanders(hub, local_stack.state)
    bystanders.submit()
    yield bystanders
    bystanders.are_well()


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """The group in which it happens."""
    return Scene(hub, "odd", {"groupQuota": {"gpu": 2}}).make()


def a_pod(name: str, labels: Object, **metadata: Any) -> Object:
    """A pod that somebody makes by hand; it runs for ever."""
    pod = a_notebook(name, group="any", user="any")
    pod["metadata"] = {"name": name, "labels": labels, **metadata}
    return pod


def owned(uid: str, name: str, **fields: Any) -> Object:
    """What a pod that claims to be a job's says of its owner."""
    owner = {"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", "name": name, "uid": uid}
    return {"ownerReferences": [{**owner, "controller": True, **fields}]}


# --- pods made by hand ---


def test_pods_that_look_like_ours_are_left_alone(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """With our labels and no owner, somebody else's owner, or labels and annotations that make no sense."""
    group = {GROUP_LABEL: scene.group}
    ours = {**group, USER_LABEL: "bob", "app": "primehub-job"}
    nonsense = {
        "primehub.io/fence": "\u00e9\u4e2d\u6587" * 100,
        "primehub.io/attempt": "9" * 5000,
        "primehub.io/usage": "{" * 1000,
    }
    config = hub.api.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": hub.name("owner")}}
    )
    of_config = owned(config["metadata"]["uid"], hub.name("owner"), apiVersion="v1", kind="ConfigMap")
    pods = hub.create(
        a_pod(hub.name("no-owner"), {**ours, JOB_UID_LABEL: "12345"}),
        a_pod(hub.name("foreign"), ours, **of_config),
        a_pod(hub.name("no-user"), group),
        a_pod(hub.name("empty"), {GROUP_LABEL: "", USER_LABEL: ""}),
        a_pod(hub.name("nonsense"), {**ours, JOB_UID_LABEL: "A_._a"}, annotations=nonsense),
    )
    job = scene.submit("job", gpus=1)
    hub.reaches(job, "Succeeded")
    bystanders.are_well()
    for name in pods:
        pod = hub.api.get("Pod", name)
        assert pod, name
        assert "deletionTimestamp" not in pod["metadata"], name
    hub.api.delete("ConfigMap", hub.name("owner"))


def test_a_pod_that_asks_for_everything_fills_its_group_alone(
    hub: Hub, scene: Scene, bystanders: Bystanders
) -> None:
    """It counts, as every pod of the group does (contract.md, Queueing 3): its jobs wait, and say why."""
    limits = {"nvidia.com/gpu": "9223372036854775807", "cpu": "9223372036854775", "memory": "8Ei"}
    pod = a_notebook(hub.name("everything"), group=scene.group, user="bob", **limits)
    hub.create(pod)
    job = scene.submit("job", gpus=1)
    hub.says(job, "GroupQuota", "9223372036854775807 of 2 used")
    bystanders.are_well()
    hub.api.delete("Pod", hub.name("everything"))
    hub.reaches(job, "Succeeded")


def test_pods_that_claim_to_be_a_jobs_change_nothing_for_it(
    hub: Hub, scene: Scene, bystanders: Bystanders
) -> None:
    """Its own pod goes on, its resources stay counted; the liars are left to Kubernetes."""
    job = scene.submit("job", gpus=2, run_for=FOREVER)
    hub.reaches(job, "Running")
    uid = hub.job(job).uid
    labels = {GROUP_LABEL: scene.group, USER_LABEL: "bob", JOB_UID_LABEL: uid}
    hub.create(
        a_pod(hub.name("liar-1"), labels, **owned(uid, job)),
        a_pod(hub.name("liar-2"), labels, **owned(uid, job), annotations={"primehub.io/fence": "x"}),
        a_pod(hub.name("liar-3"), labels, **owned(uid, hub.name("liar-3"))),
    )
    hub.meddled |= {hub.name(f"liar-{number}") for number in (1, 2, 3)}
    behind = scene.submit("behind", gpus=1)
    hub.says(behind, "GroupQuota", "gpu 2 of 2 used")
    bystanders.are_well()
    assert hub.status(job)["phase"] == "Running"
    for name in ("liar-1", "liar-2"):
        assert hub.api.get("Pod", hub.name(name)), name
    hub.cancel(job)
    hub.reaches(behind, "Succeeded")


def test_a_pod_that_has_a_jobs_name_fails_that_job(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """The pod is somebody's; also one that says that it is another job's, and one that is about to go."""
    for number, metadata in enumerate(
        ({}, owned("1234", "another"), owned("1234", hub.name("taken-2"), kind="Job"))
    ):
        name = hub.name(f"taken-{number}")
        hub.create(a_pod(name, {GROUP_LABEL: "elsewhere"}, finalizers=["example.com/hold"], **metadata))
        job = scene.submit(f"taken-{number}", gpus=1)
        status = hub.reaches(job, "Failed")
        assert status["reason"] == "PodCreationFailed"
        assert "is taken by another" in status["message"]
        hub.api.merge("Pod", name, {"metadata": {"finalizers": []}})
    bystanders.are_well()
    hub.reaches(scene.submit("free", gpus=2), "Succeeded")


def test_a_pod_that_is_given_ten_thousand_years_to_end(
    hub: Hub, scene: Scene, bystanders: Bystanders
) -> None:
    """Whoever may delete a pod may ask for that."""
    name = scene.notebook("slow", gpus=1)
    eventually(lambda: (pod := hub.pod(name)) and pod.phase == "Running", "it runs")
    hub.api.merge("Pod", name, {"metadata": {"finalizers": ["example.com/hold"]}})
    for seconds in ("99999999999", "9223372036854775807"):
        hub.api.delete("Pod", name, gracePeriodSeconds=seconds)
    job = scene.submit("job", gpus=1)
    hub.reaches(job, "Succeeded")
    bystanders.are_well()
    hub.api.merge("Pod", name, {"metadata": {"finalizers": []}})


# --- a status that somebody else writes ---

Write = dict[str, Any]
WRITTEN: dict[str, Write] = {
    "running-without-a-pod": {"phase": "Running"},
    "preparing-without-an-admission": {"phase": "Preparing"},
    "preparing-since-ever": {"phase": "Preparing", "preparingTime": BEGINNING_OF_TIME, "fence": "x"},
    "preparing-until-the-end": {"phase": "Preparing", "preparingTime": END_OF_TIME, "fence": "x"},
    "preparing-with-too-much": {
        "phase": "Preparing", "fence": "x", "resources": {"cpu": "1e999999999", "nvidia.com/gpu": "9" * 60},
    },
    "preparing-with-nonsense": {"phase": "Preparing", "fence": "x", "resources": {"cpu": "lots", "a": -1}},
    "running-until-the-end": {"phase": "Running", "startTime": END_OF_TIME, "podName": "kube-proxy"},
    "running-since-ever": {"phase": "Running", "startTime": BEGINNING_OF_TIME, "nodeName": "nowhere"},
    "succeeded-at-the-end": {"phase": "Succeeded", "finishTime": END_OF_TIME},
    "failed-without-a-time": {"phase": "Failed", "exitCode": -(2**31), "logURL": "x" * 4096},
    "cancelled-with-a-foreign-pod": {"phase": "Cancelled", "podName": "notebook", "reclaimed": False},
    "requeued-too-often": {"requeued": MOST, "phase": "Preparing", "fence": "x", "resources": {"cpu": "1"}},
    "not-before-the-end": {"requeueAfter": END_OF_TIME},
    "newest-of-all": {"revision": 2**53 - 1},
    "with-a-fence-that-reads-in-two-ways": {"fence": "\u4e2d" * 128},
    "with-words-of-its-own": {"reason": "x" * 128, "message": "\u0000\n" * 2000, "fence": "x" * 128},
    "reclaimed-before-it-began": {"reclaimed": True},
}  # fmt: skip
LEFT_ALONE = {
    "preparing-with-too-much",
    "preparing-with-nonsense",
    "not-before-the-end",
    "reclaimed-before-it-began",
}
"""Nothing can be made of these, or they say themselves that they wait: they stay as they were written."""
RUN = {"newest-of-all", "with-words-of-its-own"}
"""These are no reason not to run."""


def test_a_status_that_somebody_else_has_written(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """Contradictory, absurd, or about another's pod: each job comes to an end that says why, or waits."""
    notebook = scene.notebook("notebook", gpus=2)  # So that all of them wait.
    waiting = {what: scene.submit(what, gpus=1, requeueLimit=1) for what in WRITTEN}
    hub.says(waiting["running-without-a-pod"], "GroupQuota")
    written = []
    for what, job in waiting.items():
        with suppress(ApiError):  # What the API server itself refuses can't be written.
            hub.meddled.add(job)
            hub.api.merge("PhJob", job, {"status": WRITTEN[what]}, subresource="status")
            written.append(what)
    assert len(written) > len(WRITTEN) / 2
    bystanders.are_well()
    assert hub.api.get("Pod", notebook)
    hub.api.delete("Pod", notebook)
    for what, job in waiting.items():
        if what in LEFT_ALONE and what in written:
            continue
        status = hub.reaches(job, "Succeeded", "Failed", "Cancelled")
        if what in RUN or what not in written:
            assert status["phase"] == "Succeeded", what
        assert status["reason"], what
    bystanders.are_well()
    hub.reaches(scene.submit("behind", gpus=2), "Succeeded")


# --- a catalog with huge numbers and long names ---


def test_limits_and_quotas_that_nobody_can_count(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """Each such instance type is unusable, by its name; or it asks for just more than there is."""
    huge: dict[str, Object] = {
        "fpga": {"limits.example.com/fpga": "1e999999999"},
        "digits": {"limits.example.com/fpga": "9" * 100_000},
        "exponent": {"limits.example.com/fpga": "1e99999999999999999999"},
        "float": {"limits.example.com/fpga": 1e300},
        "nested": {"limits.example.com/fpga": {"a": ["b"]}},
        "negative": {"limits.example.com/fpga": "-1e999999999"},
        "request": {"requests.ephemeral-storage": "1e999999999"},
    }
    types = {what: hub.create(an_instance_type(hub.name(what), spec))[0] for what, spec in huge.items()}
    scene.grants(instance_types=tuple(types.values()))
    for what, name in types.items():
        status = hub.reaches(scene.submit(what, instanceType=name), "Failed")
        assert status["reason"] in ("InvalidSpec", "PodCreationFailed"), what
        assert name in status["message"], what
        assert len(status["message"]) < 500, what
    (largest,) = hub.create(
        an_instance_type(
            hub.name("largest"), {"limits.cpu": 1000000, "limits.memory": "1E", "limits.gpu": 1000000}
        )
    )
    scene.grants(instance_types=(largest,))
    assert hub.reaches(scene.submit("largest", instanceType=largest), "Failed")["reason"] == "OverQuota"
    bystanders.are_well()


def is_taken(hub: Hub, manifest: Object) -> bool:
    """Whether the API server took the object."""
    with suppress(ApiError):
        hub.create(manifest)
        return True
    return False


def test_quotas_that_nobody_can_count(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """The API server refuses them, or the group is unusable and says so, or the quota is just large."""
    for number, amount in enumerate(
        ("1e999999999", "9" * 30, "-1", "1e-999999999", 2**63 - 1, 0, "0.000001")
    ):
        for key in ("cpu", "memory", "gpu", "example.com/fpga"):
            group = hub.name(f"quota-{number}-{key.rpartition('/')[2]}")
            types = [scene._types[0]]
            spec = {"images": [scene.image], "instanceTypes": types, "groupQuota": {key: amount}}
            if is_taken(hub, a_group(group, **spec)):
                job = scene.submit(f"in-{number}-{key.rpartition('/')[2]}", group=group)
                status = hub.reaches(job, "Succeeded", "Failed")
                assert status["reason"] in ("Completed", "InvalidSpec", "OverQuota")
    bystanders.are_well()


def test_names_at_their_limits(hub: Hub, scene: Scene, bystanders: Bystanders) -> None:
    """Of groups, users, images, instance types and jobs, in any script: all of it runs."""
    wide = "\u4e2d\u6587 \U0001f680 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 a.b_c"
    group = (wide * 20)[: 255 - 7] + f"-{hub.id}"
    users = ["\u4e2d" * 255, "x" * 255, "a b", "-_.-", "\u202eevil", "e\u0301", "\u00e9"]
    image, kind = (f"{hub.name(what)}-" + "x" * (253 - len(hub.name(what)) - 1) for what in ("i", "t"))
    hub.create(an_image(image), an_instance_type(kind))
    spec = {"groupName": group, "images": [image], "instanceTypes": [kind]}
    hub.create(an_object("PhGroup", hub.name("wide"), spec))
    jobs = []
    for number, user in enumerate(users):
        name = f"{hub.name(f'n{number}')}-" + "x" * 63
        job = a_job(
            name[:63], group=group, user=user, image=image, instanceType=kind, displayName="\U0001f680" * 255
        )
        jobs += hub.create(job)
    for name in jobs:
        hub.reaches(name, "Succeeded")
    bystanders.are_well()

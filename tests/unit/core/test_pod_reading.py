from typing import Any

import pytest
from tests.fakes.facts import at
from tests.fakes.pod_statuses import NOT_CREATED, PROXY, WAS_RUNNING, container, ended, lost, status, waiting

from phjob_core.api import PodPhase
from phjob_core.pod_reading import PodReading, Quotes, parse_time


def read(status: object, **spec: Any) -> PodReading:
    return PodReading({"spec": spec, "status": status})


@pytest.mark.parametrize("nonsense", [None, 3, "x", [], [3], {"containerStatuses": 3, "phase": ["Failed"]}])
def test_a_part_of_another_type_counts_as_absent(nonsense: object) -> None:
    """Without that, one odd status would leave its job without an end."""
    reading = read(nonsense)
    assert (reading.reason, reading.message, reading.exit_code) == ("", "", None)
    assert not reading.has_started


@pytest.mark.parametrize(
    ("text", "phase"),
    [("Failed", PodPhase.FAILED), ("Exploded", PodPhase.UNKNOWN), (None, PodPhase.PENDING)],
)
def test_a_phase_that_kubernetes_does_not_have_is_unknown(text: object, phase: PodPhase) -> None:
    """Kubernetes does not validate it, and a new one may come."""
    assert read({"phase": text}).phase is phase


@pytest.mark.parametrize(
    ("main", "has_started"),
    [
        (container("main", waiting("ContainerCreating")), False),
        (container("main", lost(), **NOT_CREATED), False),
        (container("main", lost(), **WAS_RUNNING), True),
        (container("main", lost(), restartCount=1, containerID=""), True),
        (container("main", lost(), lastState=lost(), containerID=""), True),
        (container("main", lost()), True),
        (container("main", {"running": {}}), True),
        (container("main", ended(128, "StartError", startedAt=None)), True),
    ],
    ids=[
        "never created", "no trace", "was running", "a restart", "a last state", "an id", "running",
        "an exit code",
    ],
)  # fmt: skip
def test_any_trace_of_a_container_shows_its_start(main: dict[str, Any], *, has_started: bool) -> None:
    """The kubelet may report the end of a container that ran without its start time (spec.md, L6)."""
    reading = read({"phase": "Failed", "containerStatuses": [main]})
    assert reading.has_started is has_started


def test_the_last_state_of_a_lost_container_is_its_end_once_the_pod_has_ended() -> None:
    """Until then, the kubelet may start it again."""
    main = container("main", waiting("ContainerCreating"), **WAS_RUNNING)
    assert read({"phase": "Failed", "containerStatuses": [main]}).exit_code == 137
    assert read({"phase": "Running", "containerStatuses": [main]}).exit_code is None


def test_the_node_has_the_first_word_and_the_container_the_last() -> None:
    """An eviction explains an exit code, which alone says nothing (spec.md, L4)."""
    evicted = {"reason": "Evicted", "message": "The node was low on resource: memory. "}
    reading = read(status("Failed", ended(137, message="epoch 3\n"), **evicted))
    assert (reading.reason, reading.cause, reading.container_reason) == ("Evicted", "Evicted", "Error")
    assert reading.quotes == Quotes("The node was low on resource: memory", "epoch 3")


def test_a_reason_of_a_pod_that_has_not_failed_is_no_cause() -> None:
    """A node's shutdown may mark a pod that has succeeded."""
    reading = read(status("Succeeded", ended(0, "Completed"), reason="Terminated"))
    assert (reading.cause, reading.reason) == ("", "Completed")


def test_only_a_container_that_has_not_ended_runs_on() -> None:
    """`main` itself and a native sidecar do not keep the pod from its end."""
    others = PROXY, container("vault-agent", ended(0))
    assert read(status("Running", ended(3), *others)).runs_on == "istio-proxy"
    assert read(status("Failed", ended(3), *others)).runs_on == ""
    assert read(status("Running", {"running": {}}, *others)).runs_on == ""
    native = {**status("Running", ended(3)), "initContainerStatuses": [PROXY]}
    assert read(native).runs_on == ""


def test_a_container_that_waits_for_an_init_container_has_its_reason() -> None:
    """`PodInitializing` alone says nothing."""
    proxy = container("istio-init", waiting("ImagePullBackOff", "Back-off pulling image"))
    pod = {**status("Pending", waiting("PodInitializing")), "initContainerStatuses": [proxy]}
    reading = read(pod)
    assert reading.reason == "ImagePullBackOff"
    assert reading.message == "init container istio-init: Back-off pulling image"
    assert read(status("Pending", waiting("PodInitializing"))).reason == "PodInitializing"


def test_the_exit_code_of_an_init_container_that_failed_is_named() -> None:
    """What it said is not quoted: the message of a waiting job is part of a fact (spec.md, E7)."""
    init = container("istio-init", ended(1, message="token=hunter2"))
    reading = read({**status("Failed", waiting("PodInitializing")), "initContainerStatuses": [init]})
    assert reading.init_failure == "init container istio-init failed: exit code 1 (Error)"
    assert reading.quotes == Quotes()


def test_a_pods_own_deadline_is_known_if_its_node_ended_it_for_that() -> None:
    """The state of its container has the signal only."""
    pod = status("Failed", ended(137), reason="DeadlineExceeded")
    assert read(pod, activeDeadlineSeconds=60).exceeded_deadline == 60
    assert read(status("Failed", ended(137)), activeDeadlineSeconds=60).exceeded_deadline == 0


@pytest.mark.parametrize(
    "text",
    [
        None, "", "soon", 3, "2026-01-01T00:00:01", "1970-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_compared_counts_as_none(text: object) -> None:
    """Kubernetes accepts the year 0; containerd reports the start of 1970 for "never"."""
    assert parse_time(text) is None
    assert parse_time("2026-01-01T00:00:01Z") == at(1)

from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod

from phjob_core.diagnosis import describe_start_obstacle, is_being_pulled


@pytest.mark.parametrize(
    ("reason", "message", "text"),
    [
        ("Unschedulable", "0/1 nodes", "no node can take it: Unschedulable: 0/1 nodes"),
        ("ImagePullBackOff", "Back-off", "its image cannot be pulled: ImagePullBackOff: Back-off"),
        ("CreateContainerConfigError", "", "its container cannot be created: CreateContainerConfigError"),
        (
            "CrashLoopBackOff",
            "init container proxy: back-off",
            "a container that others inject does not start: CrashLoopBackOff: init container proxy: back-off",
        ),
        ("NewInKubernetes", "details", "NewInKubernetes: details"),
        ("", "", ""),
        ("ContainerCreating", "", ""),
        (
            "Unschedulable",
            "pod has unbound immediate PersistentVolumeClaims",
            "a volume cannot be provided: Unschedulable: pod has unbound immediate PersistentVolumeClaims",
        ),
    ],
)
def test_the_category_comes_before_kubernetes_own_message(reason: str, message: str, text: str) -> None:
    """The message of a requeue contains it (spec.md, Q5)."""
    assert describe_start_obstacle(a_pod(a_job(), reason=reason), message) == text


def test_a_failed_init_container_is_the_obstacle() -> None:
    """`PodInitializing` alone says nothing."""
    failure = "init container istio-init failed: exit code 1 (Error)"
    pod = a_pod(a_job(), reason="PodInitializing", init_failure=failure)
    assert describe_start_obstacle(pod) == failure


def an_event(kind: str, reason: str, second: int) -> dict[str, Any]:
    stamp = f"2026-01-01T00:00:{second:02d}Z"
    return {"type": kind, "reason": reason, "message": "details", "metadata": {"creationTimestamp": stamp}}


def test_events_explain_a_pod_whose_own_reason_is_uninformative() -> None:
    """Only events show that a volume cannot be mounted, or that an image takes long to pull."""
    pod = a_pod(a_job(), reason="ContainerCreating")
    events = [an_event("Warning", "FailedMount", 1), an_event("Normal", "Pulling", 2)]
    assert describe_start_obstacle(pod, events=events) == "a volume cannot be mounted: FailedMount: details"
    assert describe_start_obstacle(pod, events=[an_event("Normal", "Scheduled", 3)]) == ""
    assert (
        describe_start_obstacle(pod, events=events[1:]) == "its image is still being pulled: Pulling: details"
    )


def of_container(name: str, reason: str, second: int, **times: str) -> dict[str, Any]:
    event = an_event("Normal", reason, second)
    return {**event, "involvedObject": {"fieldPath": f"spec.containers{{{name}}}"}, **times}


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([], False),
        (["Scheduled"], False),
        (["Scheduled", "Pulling"], True),
        (["Pulling", "Pulled"], False),
        (["Pulling", "Pulled", "Created"], False),
        (["Pulling", "Failed"], False),
        (["Pulling", "Failed", "BackOff"], False),
        (["Pulling", "Failed", "BackOff", "Pulling"], True),
        (["Pulled", "Created", "Started"], False),
    ],
)
def test_an_image_is_being_pulled_from_one_event_of_the_kubelet_to_the_next(
    reasons: list[str], *, expected: bool
) -> None:
    """The pod's own status does not show it (spec.md, Q5)."""
    events = [of_container("main", reason, second) for second, reason in enumerate(reasons)]
    assert is_being_pulled(events) is expected
    assert is_being_pulled(reversed(events)) is expected


def test_the_pull_of_each_container_is_considered_by_itself() -> None:
    """An injected container's image may be pulled in the same second in which the job's own pull begins."""
    sidecar = [of_container("proxy", "Pulling", 1), of_container("proxy", "Pulled", 2)]
    assert is_being_pulled([*sidecar, of_container("main", "Pulling", 2)])


def test_a_pull_that_ended_in_the_second_in_which_it_began_has_ended() -> None:
    """Otherwise a pod that is stuck for another reason would count as being pulled."""
    assert not is_being_pulled([of_container("main", "Pulled", 1), of_container("main", "Pulling", 1)])


def test_a_repeated_event_counts_when_it_occurred_last() -> None:
    """The kubelet counts repetitions in one Event, and changes its lastTimestamp."""
    first = of_container("main", "Pulling", 1, lastTimestamp="2026-01-01T00:00:40Z")
    failed = of_container("main", "Failed", 20, lastTimestamp="2026-01-01T00:00:20Z")
    assert is_being_pulled([first, failed])

from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod

from phjob_core.diagnosis import describe_start_obstacle


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

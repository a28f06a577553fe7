from typing import Any

import pytest
from tests.unit.facts import a_job, a_pod

from pod_manager.diagnosis import why_not_started


@pytest.mark.parametrize(
    ("reason", "message", "said"),
    [
        ("Unschedulable", "0/1 nodes", "no node can take it: Unschedulable: 0/1 nodes"),
        ("ImagePullBackOff", "Back-off", "its image can't be had: ImagePullBackOff: Back-off"),
        ("CreateContainerConfigError", "", "its container can't be made: CreateContainerConfigError"),
        ("NewInKubernetes", "words", "NewInKubernetes: words"),
        ("", "", ""),
        ("ContainerCreating", "", ""),
        (
            "Unschedulable",
            "pod has unbound immediate PersistentVolumeClaims",
            "a volume can't be had: Unschedulable: pod has unbound immediate PersistentVolumeClaims",
        ),
    ],
)
def test_the_kind_of_trouble_comes_before_kubernetes_own_words(reason: str, message: str, said: str) -> None:
    """Queueing 5: a requeue says why."""
    assert why_not_started(a_pod(a_job(), reason=reason, message=message)) == said


def an_event(kind: str, reason: str, second: int) -> dict[str, Any]:
    stamp = f"2026-01-01T00:00:{second:02d}Z"
    return {"type": kind, "reason": reason, "message": "words", "metadata": {"creationTimestamp": stamp}}


def test_a_pod_that_says_nothing_is_explained_by_its_events() -> None:
    """A volume that can't be mounted is told in events alone; so is an image that takes long."""
    pod = a_pod(a_job(), reason="ContainerCreating")
    events = [an_event("Warning", "FailedMount", 1), an_event("Normal", "Pulling", 2)]
    assert why_not_started(pod, events) == "a volume can't be mounted: FailedMount: words"
    assert why_not_started(pod, [an_event("Normal", "Scheduled", 3)]) == ""
    assert why_not_started(pod, events[1:]) == "its image is still being pulled: Pulling: words"

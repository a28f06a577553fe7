"""The search for third parties' deletions, on histories built by hand."""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.deletions import REQUEUE_FINALIZER, Deletion, Stage, by_third_parties, never_started
from tests.support.history import WatchEvent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = {"startedAt": "2026-01-01T00:00:00Z"}
NEVER_STARTED = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None}


class HistoryBuilder:
    """A builder of the history of one job and its pods, revision by revision."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self._revisions = itertools.count(1)

    def job(self, phase: str, *, names: str = "1", gone: bool = False) -> None:
        """Append a revision of the job, which names a pod."""
        status = {"phase": phase, "podUID": names}
        self._append("PhJob", {"metadata": {"name": "a", "uid": "job"}, "status": status}, gone=gone)

    def pod(
        self,
        phase: str = "Pending",
        state: dict[str, Any] | None = None,
        *,
        node: str = "n",
        held: bool = False,
        deleting: bool = False,
        disrupted: str = "",
        gone: bool = False,
    ) -> None:
        """Append a revision of the pod, with the state of its container."""
        metadata: dict[str, Any] = {
            "name": "a",
            "uid": "1",
            "ownerReferences": [{"kind": "PhJob", "uid": "job", "controller": True}],
        }
        if held:
            metadata["finalizers"] = [REQUEUE_FINALIZER]
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:30Z"
        spec = {"nodeName": node} if node else {}
        status: dict[str, Any] = {"phase": phase}
        if state:
            status["containerStatuses"] = [{"name": "main", "state": state}]
        if disrupted:
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": disrupted}]
        self._append("Pod", {"metadata": metadata, "spec": spec, "status": status}, gone=gone)

    def running_pod(self, **fields: Any) -> None:
        """Append a revision of the pod in which its container runs."""
        self.pod("Running", {"running": STARTED}, **fields)

    def deletions(self) -> list[Deletion]:
        """Return the deletions that may be a third party's."""
        return by_third_parties(self.events)

    def never_started(self) -> bool:
        """Return whether the history proves that the pod never started."""
        return "1" in never_started(self.events)

    def _append(self, kind: str, item: dict[str, Any], *, gone: bool) -> None:
        self.events.append(WatchEvent(next(self._revisions), kind, gone, item, NOW))


@pytest.fixture
def history() -> HistoryBuilder:
    """Return the history of a job that is admitted, and has a pod on a node."""
    history = HistoryBuilder()
    history.job("Pending", names="")
    history.pod(node="")
    history.job("Preparing")
    history.pod()
    return history


def test_the_deletion_of_a_pod_after_the_end_of_its_job_does_not_count(history: HistoryBuilder) -> None:
    """It takes nothing from the job."""
    history.running_pod()
    history.job("Running")
    history.pod("Succeeded", {"terminated": STARTED})
    history.job("Succeeded")
    history.pod("Succeeded", {"terminated": STARTED}, gone=True)
    assert history.deletions() == []


def test_the_deletion_of_a_running_jobs_pod_is_a_third_partys(history: HistoryBuilder) -> None:
    """It is found once, although two revisions show it."""
    history.running_pod()
    history.job("Running")
    history.running_pod(deleting=True)
    history.running_pod(deleting=True, gone=True)
    (found,) = history.deletions()
    assert (found.pod, found.stage, found.held) == ("1", Stage.RUNNING, False)
    assert not history.never_started()


def test_a_finished_pod_can_be_removed_before_its_jobs_end_is_written(history: HistoryBuilder) -> None:
    """PodGC does it."""
    history.running_pod()
    history.job("Running")
    history.pod("Succeeded", {"terminated": STARTED})
    history.pod("Succeeded", {"terminated": STARTED}, gone=True)
    (found,) = history.deletions()
    assert found.stage is Stage.FINISHED


def test_a_pod_that_podgc_marks_as_failed_before_the_removal_was_running(history: HistoryBuilder) -> None:
    """The end of the job follows from that mark. It is not the cause of the removal."""
    history.running_pod()
    history.job("Running")
    history.pod("Failed", {"running": STARTED}, disrupted="DeletionByPodGC")
    history.job("Failed")
    history.pod("Failed", {"running": STARTED}, disrupted="DeletionByPodGC", gone=True)
    (found,) = history.deletions()
    assert found.stage is Stage.RUNNING


def test_an_eviction_is_a_third_partys_even_if_phjob_holds_the_pod(history: HistoryBuilder) -> None:
    """Kubernetes announces it by a condition of the pod."""
    history.pod(held=True)
    history.pod(held=True, disrupted="EvictionByEvictionAPI")
    history.pod(held=True, disrupted="EvictionByEvictionAPI", deleting=True)
    (found,) = history.deletions()
    assert not found.held


def test_a_final_status_without_a_start_time_proves_that_the_container_never_started(
    history: HistoryBuilder,
) -> None:
    """The kubelet writes it when it ends a pod before its container starts."""
    history.pod(deleting=True)
    history.pod("Failed", {"terminated": NEVER_STARTED}, deleting=True)
    history.pod("Failed", {"terminated": NEVER_STARTED}, deleting=True, gone=True)
    (found,) = history.deletions()
    assert found.stage is Stage.STARTING
    assert history.never_started()


def test_a_pod_that_disappears_from_its_node_may_have_started(history: HistoryBuilder) -> None:
    """No status reports its end. A pod without a node cannot have started."""
    history.pod(deleting=True)
    history.pod(deleting=True, gone=True)
    assert history.deletions()
    assert not history.never_started()
    unbound = HistoryBuilder()
    unbound.job("Preparing")
    unbound.pod(node="")
    unbound.pod(node="", deleting=True, gone=True)
    assert unbound.deletions()
    assert unbound.never_started()


def test_a_container_that_starts_while_its_pod_is_deleted_has_started(history: HistoryBuilder) -> None:
    """It had not started when the deletion was requested."""
    history.pod(deleting=True)
    history.running_pod(deleting=True)
    history.running_pod(deleting=True, gone=True)
    (found,) = history.deletions()
    assert found.stage is Stage.STARTING
    assert not history.never_started()


def test_a_deletion_by_phjob_is_not_a_third_partys(history: HistoryBuilder) -> None:
    """Of the pod of a job that is pending again, that names another pod, that has ended, or that is gone."""
    for phase, names in (("Pending", ""), ("Preparing", "2"), ("Cancelled", "1"), ("", "1")):
        continued = HistoryBuilder()
        continued.events = [*history.events]
        continued.job(phase or "Preparing", names=names, gone=not phase)
        continued.pod(deleting=True)
        continued.pod("Failed", {"terminated": NEVER_STARTED}, deleting=True, gone=True)
        assert continued.deletions() == []


def test_the_deletion_of_a_held_pod_may_be_phjobs(history: HistoryBuilder) -> None:
    """PhJob holds a pod that did not start in time, and then deletes it."""
    history.pod(held=True)
    history.pod(held=True, deleting=True)
    history.pod("Failed", {"terminated": NEVER_STARTED}, deleting=True, gone=True)
    (found,) = history.deletions()
    assert found.held

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod, at

from phjob_core.api import Phase, PodPhase, Reason
from phjob_core.lifecycle import Event
from phjob_core.messages import JobSeen
from phjob_core.retry import RetryCause, cause_of_end, is_permitted, retry_backoff

ENDED: dict[str, Any] = {
    "phase": PodPhase.FAILED, "start_time": at(1), "finish_time": at(5), "exit_code": 1, "node": "node-1",
}  # fmt: skip
DELETED = {**ENDED, "deleting": True, "deleted_at": at(4), "exit_code": 143}


def running(**fields: Any) -> JobSeen:
    return a_job(phase=Phase.RUNNING, **fields)


@pytest.mark.parametrize(
    ("event", "pod", "cause"),
    [
        (Event.POD_FAILED, ENDED, RetryCause.FAILURE),
        (Event.POD_FAILED, {**ENDED, "reason": "OOMKilled"}, RetryCause.FAILURE),
        (Event.POD_FAILED, {**ENDED, "cause": "Evicted"}, RetryCause.FAILURE),  # It has filled its own disk.
        (Event.POD_FAILED, {**ENDED, "cause": "NodeShutdown"}, RetryCause.DISRUPTION),
        (
            Event.POD_FAILED,
            {**ENDED, "disruption": "TerminationByKubelet: low on memory"},
            RetryCause.DISRUPTION,
        ),
        (Event.POD_KILLED, {**DELETED, "disruption": "EvictionByEvictionAPI"}, RetryCause.DISRUPTION),
        (Event.POD_KILLED, {**DELETED, "disruption": "PreemptionByScheduler"}, RetryCause.DISRUPTION),
        (Event.POD_KILLED, {**DELETED, "disruption": "DeletionByTaintManager"}, RetryCause.DISRUPTION),
        (
            Event.POD_KILLED,
            {"phase": PodPhase.FAILED, "disruption": "DeletionByPodGC: node is gone", "node": "node-1"},
            RetryCause.NODE_LOST,
        ),
        (
            Event.POD_VANISHED,
            {"phase": PodPhase.FAILED, "disruption": "DeletionByPodGC: node is gone", "node": "node-1"},
            RetryCause.NODE_LOST,
        ),
        (Event.POD_KILLED, DELETED, None),
        (Event.POD_OVER_DEADLINE, {**ENDED, "exceeded_deadline": 60}, None),
        (Event.POD_FAILED_UNSTARTED, {"phase": PodPhase.FAILED}, None),
        (Event.POD_SUCCEEDED, {**ENDED, "phase": PodPhase.SUCCEEDED, "exit_code": 0}, None),
    ],
)
def test_the_end_of_a_pod_has_one_cause_at_most(
    event: Event, pod: dict[str, Any], cause: RetryCause | None
) -> None:
    """A deletion by somebody has none, because they wanted it (spec.md, L17)."""
    job = running()
    assert cause_of_end(event, job, a_pod(job, **pod)) is cause


def test_a_pod_whose_end_nobody_has_seen_has_no_cause() -> None:
    """Its command may still run, for example after `kubectl delete --force`."""
    job = running()
    disrupted = {"phase": PodPhase.RUNNING, "deleting": True, "disruption": "EvictionByEvictionAPI"}
    assert cause_of_end(Event.POD_VANISHED, job, None) is None
    assert cause_of_end(Event.POD_KILLED, job, a_pod(job, **disrupted)) is None


def test_the_end_of_the_main_container_is_enough() -> None:
    """An injected sidecar may go on, and its pod is deleted."""
    job = running()
    assert cause_of_end(Event.POD_FAILED, job, a_pod(job, **{**ENDED, "phase": PodPhase.RUNNING})) is (
        RetryCause.FAILURE
    )


def test_a_pod_that_was_deleted_on_a_lost_node_was_lost_with_it() -> None:
    """PhJob itself deletes it to retry the job, and the node has returned."""
    job = running(reason=Reason.NODE_LOST)
    assert cause_of_end(Event.POD_KILLED, job, a_pod(job, **DELETED)) is RetryCause.NODE_LOST
    assert cause_of_end(Event.POD_FAILED, job, a_pod(job, **ENDED)) is RetryCause.FAILURE


@pytest.mark.parametrize(
    ("fields", "permitted"),
    [
        ({"retry_limit": 1, "retry_on": ("Failure",)}, True),
        ({"retry_limit": 1, "retry_on": ("Disruption", "NodeLost")}, False),
        ({"retry_limit": 2, "retry_on": ("Failure",), "retried": 1}, True),
        ({"retry_limit": 2, "retry_on": ("Failure",), "retried": 2}, False),
        ({"retry_limit": 1, "retry_on": ("Failure",), "retried": 9}, False),
        ({"retry_limit": 0, "retry_on": ("Failure",)}, False),
        ({"retry_limit": 1, "retry_on": ("Failure",), "cancel": True}, False),
        ({"retry_limit": 1, "retry_on": ("Failure",), "deleting": True}, False),
        ({"retry_limit": 1, "retry_on": ("Tuesday",)}, False),
        ({}, False),
    ],
)
def test_only_the_jobs_user_permits_a_retry(fields: dict[str, Any], *, permitted: bool) -> None:
    """Without `spec.retry`, no command runs twice (spec.md, L6)."""
    assert is_permitted(running(**fields), RetryCause.FAILURE) is permitted


def test_each_retry_has_a_backoff() -> None:
    """It doubles from 30 s to 10 min, so that a command that fails at once runs in no loop."""
    seconds = [30, 60, 120, 240, 480, 600, 600]
    assert [retry_backoff(n) for n in range(1, 8)] == [timedelta(seconds=second) for second in seconds]
    assert retry_backoff(0) == timedelta(0)

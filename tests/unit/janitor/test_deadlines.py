from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.facts import START, a_job, at

from janitor.deadlines import deadline
from shared.messages import GiveUp, JobSeen, Reclaim, Requeue, TimeOut
from shared.phjob import Phase, Reason
from shared.settings import JobSubmission

SETTINGS = JobSubmission(
    preparingTimeoutSeconds=180, defaultActiveDeadlineSeconds=1000, defaultTTLSecondsAfterFinished=2000
)


def test_a_job_that_waits_has_no_deadline() -> None:
    """It may wait for ever."""
    assert deadline(a_job(), None, None, SETTINGS) is None


def test_a_pod_may_take_its_time_to_start_and_not_more() -> None:
    """Seed, Requeue."""
    job = a_job(phase=Phase.PREPARING, preparing_time=START, fence="s#1")
    due = deadline(job, None, None, SETTINGS)
    assert due is not None
    assert due.at == at(180)
    assert due.order == Requeue(
        uid=job.uid, name=job.name, group=job.group, fence="s#1", message="the pod did not start within 180 s"
    )


def test_a_status_that_names_the_end_of_time_has_a_deadline_like_any_other() -> None:
    """Somebody else wrote it: nothing but this job may suffer."""
    end = datetime.max.replace(tzinfo=UTC)
    for job in (
        a_job(phase=Phase.PREPARING, preparing_time=end, fence="s#1"),
        a_job(phase=Phase.RUNNING, start_time=end),
        a_job(phase=Phase.FAILED, finish_time=end),
    ):
        due = deadline(job, None, None, SETTINGS)
        assert due is not None
        assert due.at == end


@pytest.mark.parametrize(
    ("own", "group", "seconds"),
    [(10, 20, 10), (None, 20, 20), (None, None, 1000), (0, 20, None), (None, 0, None)],
)
def test_a_run_is_limited_by_the_job_else_its_group_else_the_settings(
    own: int | None, group: int | None, seconds: int | None
) -> None:
    """contract.md, Lifecycle, Timeout; 0 is without limit."""
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=own)
    due = deadline(job, group, None, SETTINGS)
    assert (due and due.at) == (seconds and at(seconds))
    assert due is None or isinstance(due.order, TimeOut)


@pytest.mark.parametrize(("own", "seconds"), [(5, 5), (None, 2000), (0, None)])
@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_finished_jobs_pod_lives_for_its_ttl(phase: Phase, own: int | None, seconds: int | None) -> None:
    """Seed, Pod TTL After Finished; 0 is for ever."""
    job = a_job(phase=phase, finish_time=START, ttl_seconds_after_finished=own)
    due = deadline(job, None, None, SETTINGS)
    assert (due and due.at) == (seconds and at(seconds))
    assert due is None or isinstance(due.order, Reclaim)


def test_an_order_names_the_spec_that_it_was_decided_on() -> None:
    """So that an edit made meanwhile comes first."""
    run = deadline(a_job(phase=Phase.RUNNING, start_time=START, generation=4), None, None, SETTINGS)
    assert run is not None
    assert isinstance(run.order, TimeOut)
    assert run.order.generation == 4
    end = deadline(a_job(phase=Phase.FAILED, finish_time=START, generation=5), None, None, SETTINGS)
    assert end is not None
    assert isinstance(end.order, Reclaim)
    assert end.order.generation == 5


def a_lost_job(phase: Phase, **fields: Any) -> JobSeen:
    return a_job(phase=phase, reason=Reason.NODE_LOST, node="node-1", **fields)


def test_a_job_on_a_lost_node_is_left_alone_without_a_grace() -> None:
    """contract.md, Lifecycle: 0 is for ever. Its pod may run: it is not sent back to run again."""
    assert deadline(a_lost_job(Phase.PREPARING, preparing_time=START), None, at(10), SETTINGS) is None
    running = a_lost_job(Phase.RUNNING, start_time=START, active_deadline_seconds=0)
    assert deadline(running, None, at(10), SETTINGS) is None


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.RUNNING])
def test_a_job_on_a_lost_node_fails_after_the_grace_if_there_is_one(phase: Phase) -> None:
    """Counted from when the node fell silent; a deadline that comes before it stays."""
    settings = SETTINGS.model_copy(update={"node_lost_grace_seconds": 60})
    job = a_lost_job(phase, start_time=START, preparing_time=START)
    due = deadline(job, None, at(10), settings)
    assert due is not None
    assert (due.at, type(due.order)) == (at(70), GiveUp)
    assert deadline(job.model_copy(update={"reason": Reason.STARTED}), None, None, settings) is not None
    hasty = job.model_copy(update={"active_deadline_seconds": 5})
    if phase is Phase.RUNNING:
        due = deadline(hasty, None, at(10), settings)
        assert due is not None
        assert (due.at, type(due.order)) == (at(5), TimeOut)

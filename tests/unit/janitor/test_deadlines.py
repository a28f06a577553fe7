import pytest
from tests.unit.facts import START, a_job, at

from janitor.deadlines import deadline
from shared.messages import Reclaim, Requeue, TimeOut
from shared.phjob import Phase
from shared.settings import JobSubmission

SETTINGS = JobSubmission(
    preparingTimeoutSeconds=180, defaultActiveDeadlineSeconds=1000, defaultTTLSecondsAfterFinished=2000
)


def test_a_job_that_waits_has_no_deadline() -> None:
    """It may wait for ever."""
    assert deadline(a_job(), None, SETTINGS) is None


def test_a_pod_may_take_its_time_to_start_and_not_more() -> None:
    """Seed, Requeue."""
    job = a_job(phase=Phase.PREPARING, preparing_time=START, fence="s#1")
    due = deadline(job, None, SETTINGS)
    assert due is not None
    assert due[0] == at(180)
    assert due[1] == Requeue(
        uid=job.uid, name=job.name, group=job.group, fence="s#1", message="the pod did not start within 180 s"
    )


@pytest.mark.parametrize(
    ("own", "group", "seconds"),
    [(10, 20, 10), (None, 20, 20), (None, None, 1000), (0, 20, None), (None, 0, None)],
)
def test_a_run_is_limited_by_the_job_else_its_group_else_the_settings(
    own: int | None, group: int | None, seconds: int | None
) -> None:
    """contract.md, Lifecycle, Timeout; 0 is without limit."""
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=own)
    due = deadline(job, group, SETTINGS)
    assert (due and due[0]) == (seconds and at(seconds))
    assert due is None or isinstance(due[1], TimeOut)


@pytest.mark.parametrize(("own", "seconds"), [(5, 5), (None, 2000), (0, None)])
@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_finished_jobs_pod_lives_for_its_ttl(phase: Phase, own: int | None, seconds: int | None) -> None:
    """Seed, Pod TTL After Finished; 0 is for ever."""
    job = a_job(phase=phase, finish_time=START, ttl_seconds_after_finished=own)
    due = deadline(job, None, SETTINGS)
    assert (due and due[0]) == (seconds and at(seconds))
    assert due is None or isinstance(due[1], Reclaim)

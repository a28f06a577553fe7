from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.facts import START, at

from phjob_core.messages import FinishedJob
from phjob_janitor.history import REQUEST_INTERVAL, History
from phjob_runtime.settings import JobSubmission


def a_finished_job(seconds: int) -> FinishedJob:
    return FinishedJob(uid=f"uid-{seconds}", name=f"job-{seconds}", group="phusers", finish_time=at(seconds))


def names(jobs: list[FinishedJob]) -> list[str]:
    return [job.name for job in jobs]


def test_jobs_that_finished_longer_ago_than_the_ttl_are_deleted() -> None:
    """To the second, and not before (spec.md, L11)."""
    history = History(JobSubmission(historyTTLSeconds=10), START)
    jobs = [a_finished_job(1), a_finished_job(2), a_finished_job(3)]
    assert names(history.expired(3, jobs, [], at(12))) == ["job-1", "job-2"]
    assert names(history.expired(3, jobs, [], at(10.9))) == []


def test_the_oldest_jobs_beyond_the_limit_are_deleted() -> None:
    """Jobs with a pod count as well (spec.md, L11)."""
    history = History(JobSubmission(historyLimit=2), START)
    reclaimed, with_pods = [a_finished_job(1), a_finished_job(4)], [a_finished_job(2), a_finished_job(5)]
    assert names(history.expired(2, reclaimed, with_pods, at(100))) == ["job-1", "job-2"]
    assert names(history.expired(2, reclaimed, [], at(100))) == []


@given(st.sets(st.integers(0, 50)), st.integers(1, 20), st.integers(1, 50))
def test_exactly_the_newest_jobs_up_to_the_limit_are_kept(finished: set[int], limit: int, now: int) -> None:
    """For any number of jobs, any limit and at any time."""
    history = History(JobSubmission(historyLimit=limit), START)
    jobs = [a_finished_job(second) for second in sorted(finished)]
    deleted = history.expired(len(jobs), jobs, [], at(now))
    assert len(jobs) - len(deleted) == min(limit, len(jobs))
    assert deleted == jobs[: len(deleted)]


def test_the_first_request_is_due_at_once_and_the_next_after_a_minute() -> None:
    """After a restart there may be much to delete. For each request, all reclaimed jobs are listed."""
    history = History(JobSubmission(historyTTLSeconds=10), START)
    assert history.next_request() == START
    history.mark_requested(at(5))
    assert history.next_request() == at(5) + REQUEST_INTERVAL
    assert timedelta(minutes=1) == REQUEST_INTERVAL


def test_without_limits_there_is_no_request() -> None:
    """The default keeps all jobs forever (spec.md, L11)."""
    assert History(JobSubmission(), START).next_request() is None

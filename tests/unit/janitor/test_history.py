from datetime import datetime, timedelta

import pytest
from tests.fakes.facts import START, at

from phjob_core.messages import FinishedJob, HistoryLimits, HistoryPage
from phjob_janitor.history import (
    BATCH_INTERVAL,
    DELETIONS_PER_BATCH,
    MAX_JOBS_PER_REQUEST,
    MAX_NEVER_RAN,
    REQUEST_INTERVAL,
    History,
)
from phjob_runtime.settings import JobSubmission

NO_LIMITS = JobSubmission(historyTTLSeconds=0, historyLimit=0, neverRanTTLSeconds=0)


def a_page(request: int, jobs: int) -> HistoryPage:
    finished = (
        FinishedJob(uid=f"uid-{n}", name=f"job-{n}", group="phusers", finish_time=START) for n in range(jobs)
    )
    return HistoryPage(request=request, total=jobs, over_limit=tuple(finished))


def test_by_default_jobs_are_kept_for_thirty_days_and_those_that_never_ran_for_an_hour() -> None:
    """A group keeps 4,000 of the first kind, and 1,000 of the second (spec.md, L11)."""
    history = History(JobSubmission(), START)
    assert history.take_request(START) == (
        1,
        HistoryLimits(
            finished_before=START - timedelta(days=30),
            count=4000,
            never_ran_before=START - timedelta(hours=1),
            never_ran_count=MAX_NEVER_RAN,
        ),
    )


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        (
            {"historyTTLSeconds": 10},
            HistoryLimits(finished_before=at(-10), never_ran_before=at(-10)),
        ),
        ({"historyLimit": 5}, HistoryLimits(count=5, never_ran_count=5)),
        (
            {"neverRanTTLSeconds": 60},
            HistoryLimits(never_ran_before=at(-60), never_ran_count=MAX_NEVER_RAN),
        ),
        (
            {"neverRanTTLSeconds": 60, "historyTTLSeconds": 10},
            HistoryLimits(finished_before=at(-10), never_ran_before=at(-10), never_ran_count=MAX_NEVER_RAN),
        ),
    ],
)
def test_each_limit_can_be_switched_off(settings: dict[str, int], limits: HistoryLimits) -> None:
    """Without a time of their own, jobs that never ran are as all others (spec.md, L11)."""
    history = History(JobSubmission(**{**NO_LIMITS.model_dump(by_alias=True), **settings}), START)
    assert history.take_request(START) == (1, limits)


def test_the_first_request_is_due_at_once_and_the_next_after_a_minute() -> None:
    """After a restart there may be much to delete. For each request, all reclaimed jobs are listed."""
    history = History(JobSubmission(), START)
    assert history.next_wakeup() == START
    assert history.take_request(at(5)) is not None
    assert history.next_wakeup() == at(5) + REQUEST_INTERVAL
    assert history.take_request(at(6)) is None
    number, _ = history.take_request(at(5) + REQUEST_INTERVAL) or (0, None)
    assert number == 2


def test_without_limits_there_is_no_request() -> None:
    """All jobs are kept forever then (spec.md, L11)."""
    history = History(NO_LIMITS, START)
    assert history.next_wakeup() is None
    assert history.take_request(START) is None
    history.on_page(a_page(0, 1), START)
    assert history.take_deletions(START) == []


def test_jobs_are_deleted_in_batches() -> None:
    """The admissions of all groups would otherwise wait behind thousands of deletions."""
    history = History(JobSubmission(), START)
    history.take_request(START)
    history.on_page(a_page(1, DELETIONS_PER_BATCH + 1), at(1))
    assert history.next_wakeup() == at(1)
    assert [job.name for job in history.take_deletions(at(1))] == [
        f"job-{n}" for n in range(DELETIONS_PER_BATCH)
    ]
    assert history.take_deletions(at(1)) == []
    assert history.next_wakeup() == at(1) + BATCH_INTERVAL
    assert len(history.take_deletions(at(2))) == 1
    assert history.next_wakeup() == START + REQUEST_INTERVAL


def test_an_older_answer_is_ignored() -> None:
    """Its jobs may be deleted already."""
    history = History(JobSubmission(), START)
    history.take_request(START)
    history.take_request(START + REQUEST_INTERVAL)
    history.on_page(a_page(1, 1), at(61))
    assert history.take_deletions(at(61)) == []


def deleted_until(history: History, end: datetime) -> int:
    """Return the number of jobs that the history deletes until then."""
    count = 0
    while (wakeup := history.next_wakeup()) and wakeup < end and (jobs := history.take_deletions(wakeup)):
        count += len(jobs)
    return count


def test_after_a_full_answer_the_next_request_follows_as_soon_as_its_jobs_are_deleted() -> None:
    """Otherwise a flood of rejected jobs would be deleted more slowly than it comes."""
    history = History(JobSubmission(), START)
    history.take_request(START)
    history.on_page(a_page(1, MAX_JOBS_PER_REQUEST), at(1))
    assert history.take_request(at(1)) is None
    assert deleted_until(history, START + REQUEST_INTERVAL) == MAX_JOBS_PER_REQUEST
    assert history.next_wakeup() == at(1)
    assert history.take_request(at(26)) is not None

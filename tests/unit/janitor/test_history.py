from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.facts import START, at

from janitor.history import PAUSE, History
from shared.messages import Record
from shared.settings import JobSubmission


def a_record(seconds: int) -> Record:
    return Record(uid=f"uid-{seconds}", name=f"job-{seconds}", group="phusers", finish_time=at(seconds))


def names(records: list[Record]) -> list[str]:
    return [record.name for record in records]


def test_what_finished_longer_ago_than_the_ttl_is_forgotten() -> None:
    """To the second, and not before."""
    history = History(JobSubmission(historyTTLSeconds=10), START)
    records = [a_record(1), a_record(2), a_record(3)]
    assert names(history.over(3, records, [], at(12))) == ["job-1", "job-2"]
    assert names(history.over(3, records, [], at(10.9))) == []


def test_what_is_more_than_the_limit_is_forgotten_oldest_first() -> None:
    """Whether its pod still stands or not."""
    history = History(JobSubmission(historyLimit=2), START)
    records, standing = [a_record(1), a_record(4)], [a_record(2), a_record(5)]
    assert names(history.over(2, records, standing, at(100))) == ["job-1", "job-2"]
    assert names(history.over(2, records, [], at(100))) == []


@given(st.sets(st.integers(0, 50)), st.integers(1, 20), st.integers(1, 50))
def test_never_fewer_than_the_limit_stay_and_never_a_younger_one_goes_first(
    finished: set[int], limit: int, now: int
) -> None:
    """Whatever there is."""
    history = History(JobSubmission(historyLimit=limit), START)
    records = [a_record(second) for second in sorted(finished)]
    gone = history.over(len(records), records, [], at(now))
    assert len(records) - len(gone) == min(limit, len(records))
    assert gone == records[: len(gone)]


def test_it_asks_at_once_and_then_once_a_minute() -> None:
    """A restart may find much to do; each question costs a LIST of all records."""
    history = History(JobSubmission(historyTTLSeconds=10), START)
    assert history.due() == START
    history.asked(at(5))
    assert history.due() == at(5) + PAUSE
    assert timedelta(minutes=1) == PAUSE
    assert History(JobSubmission(), START).due() is None

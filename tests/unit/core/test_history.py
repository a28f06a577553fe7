"""The limits of the history: which finished jobs are selected for deletion."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.facts import START, a_job, at, later

from phjob_core.api import Phase
from phjob_core.history import HistorySelection, Record, record_of
from phjob_core.messages import HistoryLimits


def a_record(seconds: float, group: str = "phusers") -> Record:
    """Return a job that finished so many seconds after START."""
    return Record(at(seconds), f"uid-{seconds}", f"job-{seconds}", group, "s#1")


def selected(
    limits: HistoryLimits,
    ran: Iterable[float] = (),
    never_ran: Iterable[float] = (),
    *,
    most: int = 100,
) -> list[str]:
    """Return the names of the selected jobs of a group, whose jobs finished at these seconds."""
    selection = HistorySelection(limits, most, {"phusers"})
    for seconds in ran:
        selection.add(a_record(seconds), never_ran=False)
    for seconds in never_ran:
        selection.add(a_record(seconds), never_ran=True)
    return [job.name for job in selection.selected()]


def test_jobs_that_finished_before_the_time_are_selected_oldest_first() -> None:
    """To the second, and not before (spec.md, L11)."""
    assert selected(HistoryLimits(finished_before=at(2)), ran=[3, 2, 1, 0]) == ["job-0", "job-1"]


def test_all_but_the_newest_jobs_of_each_group_are_selected() -> None:
    """A group with many jobs does not delete those of another (spec.md, L11)."""
    selection = HistorySelection(HistoryLimits(count=2), 100, {"busy", "quiet"})
    for seconds in (5, 1, 3, 4):
        selection.add(a_record(seconds, "busy"), never_ran=False)
    selection.add(a_record(0, "quiet"), never_ran=False)
    assert [(job.group, job.name) for job in selection.selected()] == [("busy", "job-1"), ("busy", "job-3")]


def test_jobs_that_never_ran_have_limits_of_their_own() -> None:
    """They neither take room from the others, nor stay as long (spec.md, L11)."""
    limits = HistoryLimits(count=2, never_ran_count=1, never_ran_before=at(2))
    assert selected(limits, ran=[1, 2], never_ran=[1, 3, 4]) == ["job-1", "job-3"]
    assert selected(HistoryLimits(never_ran_before=at(2)), ran=[1], never_ran=[1.5]) == ["job-1.5"]


def test_jobs_of_unknown_groups_that_never_ran_count_together() -> None:
    """A user who invents names of groups gets no more records by it (spec.md, L11)."""
    selection = HistorySelection(HistoryLimits(count=1, never_ran_count=1), 100, {"phusers"})
    for seconds, group in enumerate(("invented-1", "invented-2", "phusers")):
        selection.add(a_record(seconds, group), never_ran=True)
    assert [(job.group, job.name) for job in selection.selected()] == [("invented-1", "job-0")]


def test_jobs_that_ran_keep_the_limit_of_their_group_when_it_is_deleted() -> None:
    """They take no records from each other (spec.md, L11)."""
    selection = HistorySelection(HistoryLimits(count=1, never_ran_count=1), 100, set())
    for seconds, group in enumerate(("deleted-1", "deleted-2")):
        selection.add(a_record(seconds, group), never_ran=False)
    assert list(selection.selected()) == []


def test_without_limits_nothing_is_selected() -> None:
    """Zero and None are no limits (spec.md, L11)."""
    assert selected(HistoryLimits(), ran=[1, 2], never_ran=[3]) == []


def test_a_selected_job_has_what_its_deletion_needs() -> None:
    """The fence, because a job that still has its pod must not have changed."""
    selection = HistorySelection(HistoryLimits(finished_before=at(2)), 1, {"phusers"})
    selection.add(a_record(1), never_ran=False)
    (job,) = selection.selected()
    assert (job.uid, job.name, job.group, job.finish_time, job.fence) == (
        "uid-1", "job-1", "phusers", at(1), "s#1",
    )  # fmt: skip


@given(st.lists(st.integers(0, 60), unique=True), st.integers(1, 9), st.integers(1, 9), st.integers(0, 60))
def test_exactly_the_oldest_jobs_over_a_limit_are_selected(
    finished: list[int], count: int, most: int, now: int
) -> None:
    """For jobs in any order, and any limits; bounded by the number that was requested."""
    newest = set(sorted(finished)[-count:])
    over = sorted(second for second in finished if second not in newest or second < now)
    limits = HistoryLimits(count=count, finished_before=at(now))
    assert selected(limits, ran=finished, most=most) == [f"job-{second}" for second in over[:most]]


@pytest.mark.parametrize(
    "job",
    [
        a_job(),
        a_job(phase=Phase.RUNNING, finish_time=START),
        a_job(phase=Phase.FAILED),
        a_job(phase=Phase.FAILED, finish_time=START, deleting=True),
    ],
    ids=["waits", "runs", "without a time", "is being deleted"],
)
def test_a_job_that_is_not_finished_or_is_being_deleted_is_no_part_of_the_history(job: object) -> None:
    """A finalizer may keep a deleted job for as long as it likes (spec.md, L11)."""
    assert record_of(job) is None  # type: ignore[arg-type]


def test_a_finished_job_that_still_has_its_pod_is_part_of_the_history() -> None:
    """Its TTL may be forever."""
    job = later(a_job(phase=Phase.FAILED, finish_time=at(3), fence="s#2"))
    assert record_of(job) == Record(at(3), job.uid, job.name, job.group, "s#2")

from typing import Any

import pytest
from tests.fakes.facts import a_group, a_job

from phjob_core.api import Reason
from phjob_core.messages import GroupSeen
from phjob_core.scheduling.acceptance import NO_LIMITS, Acceptance, PendingLimits
from phjob_core.scheduling.accounting import TrackedJob


def a_waiting_job(name: str, **fields: Any) -> TrackedJob:
    return TrackedJob(a_job(name, **fields))


def accept(
    acceptance: Acceptance, *jobs: TrackedJob, group: GroupSeen | None = None, is_new: bool = True
) -> list[bool]:
    return [acceptance.accept(job, group, is_new=is_new) for job in jobs]


def test_a_new_job_of_a_user_over_the_limit_is_rejected_with_the_numbers_and_the_remedy() -> None:
    """Other users, and the same user in another group, are not affected (spec.md, Q11)."""
    acceptance = Acceptance(PendingLimits(per_user=2))
    over = a_waiting_job("c")
    jobs = (a_waiting_job("a"), a_waiting_job("b"), over)
    assert accept(acceptance, *jobs) == [True, True, False]
    (rejection,) = acceptance.rejections
    assert (rejection.uid, rejection.reason) == (over.seen.uid, Reason.TOO_MANY_PENDING)
    assert rejection.message == (
        "user 'bob' has 2 pending jobs in group 'phusers', and maxPendingPerUser is 2: "
        "wait until some have started, or cancel some, then submit this job again"
    )
    others = a_waiting_job("d", user="lin"), a_waiting_job("e", group="vision")
    assert accept(acceptance, *others) == [True, True]


def test_a_new_job_over_the_limit_of_the_group_is_rejected() -> None:
    """Whoever submits it (spec.md, Q11)."""
    acceptance = Acceptance(PendingLimits(per_group=1))
    assert accept(acceptance, a_waiting_job("a"), a_waiting_job("b", user="lin")) == [True, False]
    (rejection,) = acceptance.rejections
    assert rejection.message == (
        "group 'phusers' has 1 pending jobs, and maxPending is 1: "
        "wait until some have started, or cancel some, then submit this job again"
    )


def test_a_job_that_does_not_wait_any_more_leaves_room_for_another() -> None:
    """An admitted job, one that has ended, and one that is rejected for another reason."""
    acceptance = Acceptance(PendingLimits(per_user=1))
    for leave in (acceptance.on_admitted, acceptance.on_gone):
        first = a_waiting_job("a")
        assert accept(acceptance, first, a_waiting_job("b")) == [True, False]
        leave(first)
        last = a_waiting_job("c")
        assert accept(acceptance, last) == [True]
        acceptance.on_gone(last)


def test_an_accepted_job_stays_accepted_when_the_limit_is_lowered() -> None:
    """It has waited (spec.md, Q11)."""
    acceptance = Acceptance(NO_LIMITS)
    jobs = [a_waiting_job("a"), a_waiting_job("b")]
    assert accept(acceptance, *jobs) == [True, True]
    lowered = a_group(max_pending_per_user=1)
    assert accept(acceptance, *jobs, a_waiting_job("c"), group=lowered) == [True, True, False]


def test_a_rejected_job_stays_rejected_when_there_is_room_again() -> None:
    """The user may have read the message already."""
    acceptance = Acceptance(PendingLimits(per_user=1))
    first, over = a_waiting_job("a"), a_waiting_job("b")
    accept(acceptance, first, over)
    acceptance.on_gone(first)
    assert accept(acceptance, over) == [False]
    assert len(list(acceptance.rejections)) == 1


def test_a_job_that_is_not_new_counts_and_is_never_over_a_limit() -> None:
    """Such as a requeued job, and one that waited before this session (spec.md, Q11)."""
    acceptance = Acceptance(PendingLimits(per_user=1))
    assert accept(acceptance, a_waiting_job("a"), a_waiting_job("b"), is_new=False) == [True, True]
    assert accept(acceptance, a_waiting_job("c")) == [False]


def test_a_settled_job_is_judged_again() -> None:
    """It has another fence: somebody has tried to admit it, so it is not new."""
    acceptance = Acceptance(PendingLimits(per_user=1))
    over = a_waiting_job("b")
    accept(acceptance, a_waiting_job("a"), over)
    over.seen = over.seen.model_copy(update={"fence": "settled"})
    assert accept(acceptance, over, is_new=False) == [True]


@pytest.mark.parametrize(
    ("group", "limits"),
    [
        (None, (5, 3)),
        (a_group(), (5, 3)),
        (a_group(max_pending=2), (2, 3)),
        (a_group(max_pending_per_user=0), (5, 0)),
    ],
)
def test_the_limits_of_a_phgroup_override_the_settings(
    group: GroupSeen | None, limits: tuple[int, int]
) -> None:
    """0 is no limit (spec.md, Q11)."""
    assert PendingLimits(5, 3).of(group) == limits


def test_a_name_without_pending_jobs_is_forgotten() -> None:
    """Users may invent any number of names."""
    acceptance = Acceptance(PendingLimits(per_user=1))
    for number in range(3):
        job = a_waiting_job(f"job-{number}", group=f"group-{number}")
        accept(acceptance, job)
        acceptance.on_gone(job)
    assert not acceptance._of_group  # noqa: SLF001 - the memory is the promise
    assert not acceptance._of_user  # noqa: SLF001

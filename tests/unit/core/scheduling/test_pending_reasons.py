from tests.fakes.facts import START, at

from phjob_core.api import Reason
from phjob_core.scheduling.pending_reasons import MIN_INTERVAL_BETWEEN_WRITES, PendingReason, PendingReasons

QUEUED: PendingReason = (Reason.QUEUED, "")
SHORT: PendingReason = (Reason.GROUP_QUOTA, "group quota: gpu 2 of 2 used, needs 1")


def changed(
    reasons: PendingReasons, seconds: float, written: PendingReason = QUEUED, current: PendingReason = SHORT
) -> list[str]:
    """The jobs whose reason must be written then."""
    return [uid for uid, _ in reasons.due_changes(at(seconds), lambda _: (written, current))]


def test_a_job_that_blocks_is_checked_after_a_second_and_then_every_ten() -> None:
    """A head that is admitted at once costs no write, and neither does a reason that is still right."""
    reasons = PendingReasons()
    reasons.watch("head", START)
    reasons.watch("head", at(0.5))
    assert changed(reasons, 0.9) == []
    assert changed(reasons, 1) == ["head"]
    assert reasons.next_wakeup() == at(11)
    assert changed(reasons, 10.9) == []
    assert changed(reasons, 11, written=SHORT) == []


def test_a_job_that_no_longer_blocks_becomes_queued_once() -> None:
    """It is not checked again. A requeued job keeps the message of its requeue."""
    reasons = PendingReasons()
    reasons.watch("head", START)
    assert changed(reasons, 1, written=SHORT, current=QUEUED) == ["head"]
    assert reasons.next_wakeup() is None
    reasons.watch("requeued", START)
    assert changed(reasons, 9, written=(Reason.REQUEUED, "no node"), current=QUEUED) == []


def test_the_reason_of_a_suspended_job_is_checked_until_it_is_written() -> None:
    """Only its user can change it, so thousands of such jobs need no checks."""
    suspended: PendingReason = (Reason.SUSPENDED, "m")
    reasons = PendingReasons()
    reasons.watch("job", START)
    assert changed(reasons, 1, current=suspended) == ["job"]
    assert changed(reasons, 11, current=suspended) == ["job"]
    assert changed(reasons, 21, written=suspended, current=suspended) == []
    assert reasons.next_wakeup() is None


def test_a_job_that_no_longer_waits_is_not_checked_again() -> None:
    """It was admitted, or it is gone."""
    reasons = PendingReasons()
    reasons.watch("head", START)
    assert list(reasons.due_changes(at(1), lambda _: None)) == []
    assert reasons.next_wakeup() is None


def test_the_writes_of_a_thousand_blocked_jobs_are_spread() -> None:
    """A thousand users at their quota must cause no burst. Each job gets its reason in the end."""
    reasons = PendingReasons()
    for number in range(1000):
        reasons.watch(f"job-{number}", START)
    written: list[str] = []
    now = at(1)
    for _ in range(1000):
        one = list(reasons.due_changes(now, lambda _: (QUEUED, SHORT)))
        assert len(one) == 1
        written += [uid for uid, _ in one]
        wakeup = reasons.next_wakeup()
        assert wakeup == now + MIN_INTERVAL_BETWEEN_WRITES
        now = wakeup
    assert sorted(written) == sorted({f"job-{number}" for number in range(1000)})

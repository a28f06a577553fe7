from datetime import timedelta

from tests.unit.facts import START

from shared.lifecycle import TABLE, Effect, Event, requeue, transition
from shared.phjob import Phase, Reason

ALLOWED = {
    (Phase.PENDING, Phase.PREPARING),
    (Phase.PENDING, Phase.CANCELLED),
    (Phase.PENDING, Phase.FAILED),
    (Phase.PREPARING, Phase.PENDING),
    (Phase.PREPARING, Phase.RUNNING),
    (Phase.PREPARING, Phase.SUCCEEDED),
    (Phase.PREPARING, Phase.FAILED),
    (Phase.PREPARING, Phase.CANCELLED),
    (Phase.RUNNING, Phase.SUCCEEDED),
    (Phase.RUNNING, Phase.FAILED),
    (Phase.RUNNING, Phase.CANCELLED),
}


def test_phases_move_only_as_the_state_diagram_says() -> None:
    """Seed, State Diagram; and a job too quick to be seen Running (contract.md, Lifecycle)."""
    assert {(phase, change.phase) for (phase, _), change in TABLE.items()} == ALLOWED


def test_a_finished_job_stays_finished_whatever_happens() -> None:
    """Final phases have no way out."""
    for event in Event:
        for phase in Phase:
            assert not (phase.final and transition(phase, event))


def test_every_job_that_is_not_finished_can_be_cancelled() -> None:
    """Seed, Cancellation."""
    for phase in (Phase.PENDING, Phase.PREPARING, Phase.RUNNING):
        change = transition(phase, Event.CANCELLED)
        assert change is not None
        assert (change.phase, change.effect) == (Phase.CANCELLED, Effect.DELETE_AFTER)


def test_the_pause_before_the_next_try_doubles_from_thirty_seconds_to_ten_minutes() -> None:
    """Queueing 5: none the first time."""
    pauses = []
    for times in range(8):
        outcome = requeue(times, None, START)
        pauses.append(outcome.requeue_after and outcome.requeue_after - START)
    seconds = [pause and pause / timedelta(seconds=1) for pause in pauses]
    assert seconds == [None, 30, 60, 120, 240, 480, 600, 600]


def test_a_job_over_its_requeue_limit_fails() -> None:
    """Queueing 5: more than requeueLimit times."""
    assert requeue(1, 2, START).phase is Phase.PENDING
    over = requeue(2, 2, START)
    assert (over.phase, over.reason) == (Phase.FAILED, Reason.OVER_REQUEUE_LIMIT)


def test_a_job_may_be_requeued_for_ever_without_a_limit() -> None:
    """And the numbers stay within their bounds."""
    assert requeue(10**6, None, START).phase is Phase.PENDING

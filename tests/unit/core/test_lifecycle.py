from datetime import timedelta

import pytest
from tests.fakes.facts import START

from phjob_core.api import Phase, Reason
from phjob_core.lifecycle import (
    MAX_REQUEUES,
    REASONS_WITHOUT_POD,
    TABLE,
    Effect,
    Event,
    Ignored,
    Transition,
    requeue,
    transition,
)

EXPECTED = """
event                |Pending                 |Preparing                  |Running                    |final
---------------------+------------------------+---------------------------+---------------------------+-------
ADMITTED             |Preparing Admitted +    |no                         |no                         |no
REJECTED             |Failed InvalidSpec      |no                         |no                         |no
PENDING_REASON_SET   |Pending Queued          |no                         |no                         |no
CANCELLED            |Cancelled Cancelled /   |Cancelled Cancelled /      |Cancelled Cancelled /      |no
POD_CREATION_REJECTED|Pending Requeued        |no                         |no                         |no
POD_INVALID          |Failed PodCreationFailed|Failed PodCreationFailed   |no                         |no
POD_FAILED_UNSTARTED |no                      |Pending Requeued /         |no                         |no
POD_RUNNING          |no                      |Running Started            |no                         |no
POD_SUCCEEDED        |no                      |Succeeded Completed        |Succeeded Completed        |no
POD_FAILED           |no                      |Failed Error               |Failed Error               |no
POD_KILLED           |no                      |Failed PodDeleted          |Failed PodDeleted          |no
POD_OVER_DEADLINE    |no                      |Failed OverActiveDeadline /|Failed OverActiveDeadline /|no
POD_NOT_CREATABLE_YET|Pending Queued          |no                         |no                         |no
POD_GONE_UNSTARTED   |no                      |Pending Requeued           |no                         |no
POD_VANISHED         |no                      |Failed PodDeleted          |Failed PodDeleted          |reclaim
NODE_LOST            |no                      |Preparing NodeLost         |Running NodeLost           |no
NODE_BACK            |no                      |Preparing Admitted         |Running Started            |no
START_TIMEOUT        |no                      |/ Pending Requeued         |no                         |no
OVER_DEADLINE        |no                      |no                         |Failed OverActiveDeadline /|no
NODE_LOST_TOO_LONG   |no                      |Failed NodeLost /          |Failed NodeLost /          |no
TTL_OVER             |no                      |no                         |no                         |/
HISTORY_OVER         |no                      |no                         |no                         |delete
"""
"""The phase and reason after each event. `+` ungates the pod; `/` deletes it, before or after the write."""

SIGNS = {
    Effect.NONE: "{}",
    Effect.UNGATE: "{} +",
    Effect.DELETE_BEFORE: "/ {}",
    Effect.DELETE_AFTER: "{} /",
    Effect.MARK_RECLAIMED: "{} reclaim",
    Effect.DELETE_RECORD: "{} delete",
}


def rows() -> list[tuple[Phase, Event, str]]:
    head, _, *lines = EXPECTED.strip().splitlines()
    columns = [name.strip() for name in head.split("|")][1:]
    return [
        (phase, Event[event.strip()], " ".join(cell.replace("/", " / ").split()))
        for line in lines
        for event, *cells in [line.split("|")]
        for column, cell in zip(columns, cells, strict=True)
        for phase in Phase
        if phase == column or (phase.final and column == "final")
    ]


def test_no_pair_is_missing_from_the_table() -> None:
    """An event that is not in the table would raise an error in production."""
    pairs = {(phase, event) for phase in Phase for event in Event}
    assert {(phase, event) for phase, event, _ in rows()} == pairs
    assert set(TABLE) == pairs


@pytest.mark.parametrize(("phase", "event", "expected"), rows())
def test_each_event_has_the_specified_effect_in_each_phase(phase: Phase, event: Event, expected: str) -> None:
    """The specification lists the phases and reasons (spec.md, L1, L2)."""
    outcome = transition(phase, event)
    if isinstance(outcome, Ignored):
        assert (expected, bool(outcome.reason)) == ("no", True)
        return
    change = f"{outcome.phase} {outcome.reason}" if outcome.reason else ""
    assert SIGNS[outcome.effect].format(change).strip() == expected
    if not change:
        assert outcome.phase is phase


def test_phases_move_only_as_the_state_diagram_says() -> None:
    """A job may end too quickly to be observed as Running (spec.md, L1, L4)."""
    allowed = {
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
    moves = {
        (phase, change.phase)
        for (phase, _), change in TABLE.items()
        if isinstance(change, Transition) and change.phase is not phase
    }
    assert moves == allowed


def test_a_job_that_was_stopped_on_purpose_keeps_no_pod() -> None:
    """Its pod is deleted at once, whatever its TTL (spec.md, L10)."""
    assert {Reason.CANCELLED, Reason.OVER_ACTIVE_DEADLINE, Reason.NODE_LOST} == REASONS_WITHOUT_POD


def test_the_backoff_doubles_from_thirty_seconds_to_ten_minutes() -> None:
    """The first requeue has no backoff (spec.md, Q5)."""
    delays = []
    for times in range(8):
        outcome = requeue(times, None, START)
        delays.append(outcome.requeue_after and outcome.requeue_after - START)
    seconds = [delay and delay / timedelta(seconds=1) for delay in delays]
    assert seconds == [None, 30, 60, 120, 240, 480, 600, 600]


def test_a_job_over_its_requeue_limit_fails() -> None:
    """`requeueLimit: n` permits n requeues (spec.md, Q5)."""
    assert requeue(1, 2, START).phase is Phase.PENDING
    over = requeue(2, 2, START)
    assert (over.phase, over.reason) == (Phase.FAILED, Reason.OVER_REQUEUE_LIMIT)


def test_a_job_without_a_limit_may_be_requeued_forever() -> None:
    """The count stays within the bound of its field."""
    assert requeue(10**6, None, START).phase is Phase.PENDING
    assert requeue(MAX_REQUEUES, None, START).requeued == MAX_REQUEUES


def test_a_reason_tells_whether_the_pod_of_a_finished_job_is_deleted() -> None:
    """The status does not record the event, so the planner decides by the reason."""
    effects: dict[Reason, set[bool]] = {}
    for (phase, _), change in TABLE.items():
        if isinstance(change, Transition) and change.phase.final and not phase.final:
            assert change.reason
            effects.setdefault(change.reason, set()).add(change.effect is Effect.DELETE_AFTER)
    assert all(len(effect) == 1 for effect in effects.values())

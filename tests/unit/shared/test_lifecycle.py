from datetime import timedelta

import pytest
from tests.unit.facts import START

from shared.lifecycle import POD_UNWANTED, TABLE, Effect, Event, Refused, Transition, requeue, transition
from shared.phjob import Phase, Reason

EXPECTED = """
event         | Pending               | Preparing                | Running                     | finished
--------------+-----------------------+--------------------------+-----------------------------+---------
ADMITTED      | Preparing Admitted +  | no                       | no                          | no
REFUSED       | Failed InvalidSpec    | no                       | no                          | no
EXPLAINED     | Pending Queued        | no                       | no                          | no
CANCELLED     | Cancelled Cancelled / | Cancelled Cancelled /    | Cancelled Cancelled /       | no
POD_REFUSED   | no                    | / Pending Requeued       | no                          | no
POD_INVALID   | no                    | Failed PodCreationFailed | no                          | no
POD_REJECTED  | no                    | Pending Requeued /       | no                          | no
POD_RUNNING   | no                    | Running Started          | no                          | no
POD_SUCCEEDED | no                    | Succeeded Completed      | Succeeded Completed         | no
POD_FAILED    | no                    | Failed Error             | Failed Error                | no
POD_KILLED    | no                    | Failed PodDeleted        | Failed PodDeleted           | no
POD_GONE      | no                    | / Pending Requeued       | Failed PodDeleted           | reclaim
NODE_LOST     | no                    | Preparing NodeLost       | Running NodeLost            | no
NODE_BACK     | no                    | Preparing Admitted       | Running Started             | no
NOT_STARTED   | no                    | / Pending Requeued       | no                          | no
OVER_DEADLINE | no                    | no                       | Failed OverActiveDeadline / | no
NODE_GIVEN_UP | no                    | Failed NodeLost /        | Failed NodeLost /           | no
TTL_OVER      | no                    | no                       | no                          | /
HISTORY_OVER  | no                    | no                       | no                          | forget
"""
"""Phase and reason after each event; `+` creates the pod, `/` deletes it, before or after the write."""

SIGNS = {
    Effect.NONE: "{}",
    Effect.CREATE: "{} +",
    Effect.DELETE_BEFORE: "/ {}",
    Effect.DELETE_AFTER: "{} /",
    Effect.RECLAIM: "{} reclaim",
    Effect.FORGET: "{} forget",
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
        if phase == column or (phase.final and column == "finished")
    ]


def test_no_pair_is_missing_from_the_table() -> None:
    """Each event has an outcome in each phase, here and in the product."""
    pairs = {(phase, event) for phase in Phase for event in Event}
    assert {(phase, event) for phase, event, _ in rows()} == pairs
    assert set(TABLE) == pairs


@pytest.mark.parametrize(("phase", "event", "expected"), rows())
def test_each_event_does_in_each_phase_what_the_contract_says(
    phase: Phase, event: Event, expected: str
) -> None:
    """contract.md, Queueing and Lifecycle; seed, State Diagram."""
    outcome = transition(phase, event)
    if isinstance(outcome, Refused):
        assert (expected, bool(outcome.why)) == ("no", True)
        return
    said = f"{outcome.phase} {outcome.reason}" if outcome.reason else ""
    assert SIGNS[outcome.effect].format(said).strip() == expected
    if not said:
        assert outcome.phase is phase


def test_phases_move_only_as_the_state_diagram_says() -> None:
    """Seed, State Diagram; and a job too quick to be seen Running (contract.md, Lifecycle)."""
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


def test_a_job_that_was_ended_on_purpose_keeps_no_pod() -> None:
    """Cancelled, over its deadline, or given up with its node: whatever its TTL."""
    assert {Reason.CANCELLED, Reason.OVER_ACTIVE_DEADLINE, Reason.NODE_LOST} == POD_UNWANTED


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

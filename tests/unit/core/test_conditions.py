import pytest
from tests.fakes.facts import at

from phjob_core.api import Phase, Reason
from phjob_core.conditions import MAX_MESSAGE_CHARS, Condition, ConditionType, conditions_of

CREATED, NOW = at(0), at(60)


def types(phase: Phase, reason: str = "x") -> set[str]:
    return {c.type.value for c in conditions_of(phase, reason, "", created=CREATED, now=NOW)}


@pytest.mark.parametrize(
    ("phase", "reason", "expected"),
    [
        (Phase.PENDING, Reason.QUEUED, {"Reconciling"}),
        (Phase.PENDING, Reason.SUSPENDED, {"Suspended", "Reconciling"}),
        (Phase.PREPARING, Reason.ADMITTED, {"Reconciling"}),
        (Phase.RUNNING, Reason.STARTED, {"Reconciling"}),
        (Phase.RUNNING, Reason.NODE_LOST, {"Reconciling"}),
        (Phase.SUCCEEDED, Reason.COMPLETED, {"Complete"}),
        (Phase.FAILED, Reason.ERROR, {"Failed", "Stalled"}),
        (Phase.CANCELLED, Reason.CANCELLED, {"Failed", "Stalled"}),
    ],
)
def test_the_conditions_follow_from_the_phase_and_the_reason(
    phase: Phase, reason: Reason, expected: set[str]
) -> None:
    """A condition that is not listed is not True (spec.md, A16)."""
    assert types(phase, reason) == expected


def test_a_condition_holds_since_the_write_or_the_creation() -> None:
    """A job reconciles from its creation on, so a later write does not change that time."""
    (waiting,) = conditions_of(Phase.PENDING, "GroupQuota", "group quota", created=CREATED, now=NOW)
    assert waiting == Condition(ConditionType.RECONCILING, CREATED, "GroupQuota", "group quota")
    (ended,) = conditions_of(Phase.SUCCEEDED, "Completed", "exit code 0", created=CREATED, now=NOW)
    assert ended == Condition(ConditionType.COMPLETE, NOW, "Completed", "exit code 0")


@pytest.mark.parametrize("reason", ["", "OOM\\u001b[2J", "two words", "1st", "ends-with:"])
def test_a_reason_that_is_no_reason_of_a_condition_is_error(reason: str) -> None:
    """A container's reason may be any text, and the API server would reject the write forever."""
    failed, _ = conditions_of(Phase.FAILED, reason, "", created=CREATED, now=NOW)
    assert failed.reason == "Error"


@pytest.mark.parametrize("reason", ["OOMKilled", "A", "a_1:b,c_"])
def test_a_reason_of_a_container_stays(reason: str) -> None:
    """It is more specific than `Error`."""
    failed, _ = conditions_of(Phase.FAILED, reason, "", created=CREATED, now=NOW)
    assert failed.reason == reason


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    """The beginning has the exit code, and the end what the log said last."""
    message = "exit code 1 (Error): " + "x" * 3000 + " CUDA out of memory"
    failed, _ = conditions_of(Phase.FAILED, "Error", message, created=CREATED, now=NOW)
    assert len(failed.message) == MAX_MESSAGE_CHARS
    assert failed.message.startswith("exit code 1 (Error): x")
    assert failed.message.endswith(" CUDA out of memory")
    (short,) = conditions_of(Phase.SUCCEEDED, "Completed", "m" * 1024, created=CREATED, now=NOW)
    assert short.message == "m" * 1024

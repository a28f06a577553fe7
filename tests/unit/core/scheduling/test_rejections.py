from tests.fakes.facts import START, at

from phjob_core.messages import Reject
from phjob_core.scheduling.rejections import MAX_OUTSTANDING, REPEAT_INTERVAL, Rejections


def a_rejection(number: int, message: str = "no") -> Reject:
    return Reject(
        uid=f"uid-{number}", name=f"job-{number}", group="g", fence="", reason="InvalidSpec", message=message
    )


def some(count: int) -> Rejections:
    rejections = Rejections()
    for number in range(count):
        rejections.add(a_rejection(number))
    return rejections


def test_only_a_few_rejections_are_outstanding_at_a_time() -> None:
    """Otherwise the admissions of the group would wait behind all of them."""
    rejections = some(MAX_OUTSTANDING + 2)
    assert [one.uid for one in rejections.take_due(START)] == [f"uid-{n}" for n in range(MAX_OUTSTANDING)]
    assert rejections.take_due(START) == []
    rejections.discard("uid-3")
    assert rejections.take_due(START) == [a_rejection(MAX_OUTSTANDING)]
    assert len(list(rejections)) == MAX_OUTSTANDING + 1


def test_a_rejection_without_an_effect_is_sent_again_after_the_others() -> None:
    """The API server may have refused the write. That must not keep the others from being sent."""
    rejections = some(MAX_OUTSTANDING + 1)
    rejections.take_due(START)
    assert rejections.next_repeat() == START + REPEAT_INTERVAL
    again = rejections.take_due(START + REPEAT_INTERVAL)
    assert [one.uid for one in again] == [f"uid-{n}" for n in (MAX_OUTSTANDING, *range(MAX_OUTSTANDING - 1))]
    assert rejections.next_repeat() == START + 2 * REPEAT_INTERVAL


def test_a_rejection_that_is_no_longer_wanted_is_not_sent() -> None:
    """Such as that of a job that became feasible before its turn."""
    rejections = some(2)
    rejections.discard("uid-0")
    rejections.discard("uid-unknown")
    assert rejections.get("uid-0") is None
    assert rejections.take_due(START) == [a_rejection(1)]
    assert rejections.get("uid-1") == a_rejection(1)


def test_a_new_rejection_of_a_job_replaces_the_old_one() -> None:
    """It has another reason; the first one, if it was sent, fails then."""
    rejections = some(1)
    rejections.take_due(START)
    rejections.add(a_rejection(0, "another"))
    assert rejections.take_due(at(1)) == [a_rejection(0, "another")]


def test_without_rejections_nothing_is_due() -> None:
    """The engine sleeps."""
    assert Rejections().next_repeat() is None
    assert some(1).next_repeat() is None

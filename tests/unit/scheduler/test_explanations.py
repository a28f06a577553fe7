from tests.unit.facts import START, at

from scheduler.explanations import APART, Explanations, Said
from shared.phjob import Reason

QUEUED: Said = (Reason.QUEUED, "")
SHORT: Said = (Reason.GROUP_QUOTA, "group quota: gpu 2 of 2 used, needs 1")


def told(explanations: Explanations, seconds: float, reads: Said = QUEUED, should: Said = SHORT) -> list[str]:
    """The jobs that are told something then."""
    return [uid for uid, _ in explanations.tell(at(seconds), lambda _: (reads, should))]


def test_a_job_that_decides_is_told_after_a_second_and_looked_at_every_ten() -> None:
    """A head that goes at once costs no write, and one that reads what it should costs none either."""
    explanations = Explanations()
    explanations.watch("head", START)
    explanations.watch("head", at(0.5))
    assert told(explanations, 0.9) == []
    assert told(explanations, 1) == ["head"]
    assert explanations.due() == at(11)
    assert told(explanations, 10.9) == []
    assert told(explanations, 11, reads=SHORT) == []


def test_one_that_decides_no_more_is_told_so_once() -> None:
    """And is not looked at again; one that was sent back goes on saying why."""
    explanations = Explanations()
    explanations.watch("head", START)
    assert told(explanations, 1, reads=SHORT, should=QUEUED) == ["head"]
    assert explanations.due() is None
    explanations.watch("sent-back", START)
    assert told(explanations, 9, reads=(Reason.REQUEUED, "no node"), should=QUEUED) == []


def test_however_many_decide_few_are_told_at_a_time() -> None:
    """A thousand users at their quota are no burst of writes; all are told in the end."""
    explanations = Explanations()
    for number in range(1000):
        explanations.watch(f"job-{number}", START)
    seen: list[str] = []
    now = at(1)
    for _ in range(1000):
        one = list(explanations.tell(now, lambda _: (QUEUED, SHORT)))
        assert len(one) == 1
        seen += [uid for uid, _ in one]
        due = explanations.due()
        assert due == now + APART
        now = due
    assert sorted(seen) == sorted({f"job-{number}" for number in range(1000)})

"""The admissions that are not observed yet: which of them are overdue, and which only wait for their turn."""

from tests.fakes.facts import START, at

from phjob_core.scheduling.outstanding_admissions import OutstandingAdmissions


def outstanding(*uids: str, group: str = "phusers") -> OutstandingAdmissions:
    """Return admissions of a group that were decided at START, numbered from 1."""
    admissions = OutstandingAdmissions()
    for number, uid in enumerate(uids, 1):
        admissions.add(uid, group, number, START)
    return admissions


def test_an_admission_is_overdue_after_a_minute_without_progress() -> None:
    """A command or a fact may be lost (design/consistency.md, H13)."""
    admissions = outstanding("a", "b")
    assert admissions.next_timeout() == at(60)
    assert admissions.take_overdue(at(59)) == []
    assert admissions.take_overdue(at(60)) == ["a", "b"]
    assert admissions.next_timeout() is None


def test_an_admission_that_ended_is_never_overdue() -> None:
    """Whether it was observed, or its job is gone."""
    admissions = outstanding("a")
    admissions.end("a", at(1))
    assert admissions.take_overdue(at(60)) == []


def test_an_admission_waits_for_its_turn_while_earlier_ones_of_its_group_are_observed() -> None:
    """Thousands of jobs may be admitted at once, and a slow API server takes more than a minute for them."""
    admissions = outstanding("a", "b", "c")
    admissions.end("a", at(50))
    assert admissions.take_overdue(at(60)) == []
    assert admissions.next_timeout() == at(120)
    admissions.end("b", at(100))
    assert admissions.take_overdue(at(120)) == []
    assert admissions.take_overdue(at(180)) == ["c"]


def test_an_admission_is_overdue_if_a_later_one_of_its_group_is_observed() -> None:
    """The commands of a group are executed in sequence, so this one was lost."""
    admissions = outstanding("a", "b")
    admissions.end("b", at(59))
    assert admissions.take_overdue(at(60)) == ["a"]


def test_the_progress_of_another_group_does_not_count() -> None:
    """pod-manager works on all groups at the same time."""
    admissions = outstanding("a")
    admissions.add("other", "others", 2, START)
    admissions.end("other", at(59))
    assert admissions.take_overdue(at(60)) == ["a"]


def test_iteration_shows_when_each_was_decided() -> None:
    """Another timeout does not make it younger."""
    admissions = outstanding("a", "b")
    admissions.end("a", at(50))
    admissions.take_overdue(at(60))
    assert [(one.uid, one.decided) for one in admissions] == [("b", START)]

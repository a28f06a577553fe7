from tests.fakes.facts import START, at

from phjob_core.api import Reason
from phjob_pod_manager.events import EVENT_REASONS, Occurrence, Subject, bump_count, new_event


def a_problem(uid: str, reason: Reason, message: str = "", count: int = 1) -> Occurrence:
    return Occurrence(Subject("primehub.io/v1alpha1", "PhJob", "job-1", uid), reason, message, count=count)


def test_each_job_and_reason_has_one_event() -> None:
    """Its name depends on both only, so it is the same after a restart."""
    first = a_problem("uid-1", Reason.REQUEUED, "the pod did not start within 180 s")
    assert a_problem("uid-1", Reason.REQUEUED, "another message").key == first.key
    assert a_problem("uid-1", Reason.NODE_LOST, "").key != first.key
    assert a_problem("uid-2", Reason.REQUEUED, "").key != first.key, "the name of a job may be used again"


def test_an_event_is_about_the_job_and_has_the_message_of_its_status() -> None:
    """`kubectl describe` finds it by the job's uid."""
    problem = a_problem("uid-1", Reason.OVER_QUOTA, "needs gpu 8, but the group quota is 4")
    written = new_event(problem, "hub", START)
    assert written["involvedObject"]["uid"] == "uid-1"
    assert written["involvedObject"]["kind"] == "PhJob"
    assert (written["type"], written["reason"], written["count"]) == ("Warning", "OverQuota", 1)
    assert written["message"] == problem.message


def test_another_occurrence_adds_to_the_count_and_replaces_the_message() -> None:
    """Several occurrences at once, if none was written in between."""
    problem = a_problem("uid-1", Reason.REQUEUED, "newest", count=2)
    changes = {op["path"]: op["value"] for op in bump_count(problem, {"count": 3}, at(60))}
    assert changes == {"/count": 5, "/message": "newest", "/lastTimestamp": "2026-01-01T00:01:00Z"}


def test_a_long_message_is_cut_to_the_api_servers_bound() -> None:
    """The message of a status may be longer."""
    assert len(new_event(a_problem("u", Reason.REQUEUED, "x" * 4096), "hub", START)["message"]) == 1024


def test_only_problems_have_events() -> None:
    """A job that succeeds has none, and neither has one whose command fails."""
    fine = {Reason.ADMITTED, Reason.STARTED, Reason.COMPLETED, Reason.CANCELLED, Reason.QUEUED, Reason.ERROR}
    assert not EVENT_REASONS & fine


def test_a_message_cannot_control_a_terminal() -> None:
    """It may end in a user's log, and `kubectl describe` prints it (spec.md, A4)."""
    problem = a_problem("u", Reason.REQUEUED, "a\x1b[2J\nb")
    assert new_event(problem, "hub", START)["message"] == "a\\u001b[2J\nb"
    changes = {op["path"]: op["value"] for op in bump_count(problem, {"count": 1}, START)}
    assert changes["/message"] == "a\\u001b[2J\nb"

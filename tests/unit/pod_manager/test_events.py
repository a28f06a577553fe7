from tests.unit.facts import START, at

from pod_manager.events import TOLD, Trouble, again, event
from shared.phjob import Reason


def test_the_same_trouble_of_a_job_is_one_event_and_another_is_another() -> None:
    """By its name, which nobody has to remember across a restart."""
    first = Trouble("uid-1", "job-1", Reason.REQUEUED, "the pod did not start within 180 s")
    assert Trouble("uid-1", "job-1", Reason.REQUEUED, "other words").key == first.key
    assert Trouble("uid-1", "job-1", Reason.NODE_LOST, "").key != first.key
    assert Trouble("uid-2", "job-1", Reason.REQUEUED, "").key != first.key, "a name may be used again"


def test_an_event_is_about_the_job_and_says_what_the_status_says() -> None:
    """`kubectl describe` finds it by the job's uid."""
    trouble = Trouble("uid-1", "job-1", Reason.OVER_QUOTA, "needs gpu 8, but the group quota is 4")
    written = event(trouble, "hub", START)
    assert written["involvedObject"]["uid"] == "uid-1"
    assert written["involvedObject"]["kind"] == "PhJob"
    assert (written["type"], written["reason"], written["count"]) == ("Warning", "OverQuota", 1)
    assert written["message"] == trouble.message


def test_what_happens_again_is_counted_up_with_the_newest_words() -> None:
    """Also twice at once, if it was not written in between."""
    trouble = Trouble("uid-1", "job-1", Reason.REQUEUED, "newest", count=2)
    changes = {op["path"]: op["value"] for op in again(trouble, {"count": 3}, at(60))}
    assert changes == {"/count": 5, "/message": "newest", "/lastTimestamp": "2026-01-01T00:01:00Z"}


def test_long_words_are_cut_to_what_an_event_may_hold() -> None:
    """A status may say more."""
    assert len(event(Trouble("u", "n", Reason.REQUEUED, "x" * 4096), "hub", START)["message"]) == 1024


def test_only_what_went_wrong_is_told() -> None:
    """On the good path nothing is; that a command failed is its own news."""
    fine = {Reason.ADMITTED, Reason.STARTED, Reason.COMPLETED, Reason.CANCELLED, Reason.QUEUED, Reason.ERROR}
    assert not TOLD & fine

from tests.unit.facts import a_job

from shared.messages import JobSeen
from shared.view import View


def test_a_fact_older_than_the_snapshot_is_no_news() -> None:
    """It was on its way while the LIST was made."""
    view: View[JobSeen] = View()
    view.begin(100)
    assert not view.put(a_job(resource_version=100))
    assert view.put(a_job(resource_version=101))


def test_what_was_listed_may_be_as_old_as_it_likes() -> None:
    """An object that never changed has an old revision."""
    view: View[JobSeen] = View()
    view.begin(100)
    assert view.put(a_job(resource_version=7), listed=True)
    assert len(view) == 1


def test_a_fact_not_newer_than_what_is_known_is_no_news() -> None:
    """The answer to one's own write may come before the watch tells of it."""
    view: View[JobSeen] = View()
    view.begin(1)
    assert view.put(a_job(resource_version=9))
    assert not view.put(a_job(resource_version=9))
    assert not view.put(a_job(resource_version=8))


def test_a_stale_deletion_does_not_remove_what_was_listed() -> None:
    """Of an object that was deleted and is listed, one is wrong; the LIST is the later word."""
    view: View[JobSeen] = View()
    view.begin(100)
    job = a_job(resource_version=90)
    view.put(job, listed=True)
    assert view.drop(job.uid, 95) is None
    assert view.drop(job.uid, 101) == job
    assert len(view) == 0


def test_the_answer_to_ones_own_write_survives_an_older_snapshot() -> None:
    """Else a job that was just admitted would look as if it waited, and its pod as if it were a stray."""
    view: View[JobSeen] = View()
    view.begin(100)
    written = a_job(resource_version=120, phase="Preparing")
    view.put(written)
    view.begin(110)
    assert not view.put(a_job(resource_version=90), listed=True)
    assert view.get(written.uid) == written


def test_what_a_newer_snapshot_does_not_list_is_forgotten() -> None:
    """It was deleted, and the deletion may have been lost."""
    view: View[JobSeen] = View()
    view.put(a_job(resource_version=90))
    view.begin(100)
    assert len(view) == 0

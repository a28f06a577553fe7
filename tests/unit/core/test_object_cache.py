from tests.fakes.facts import a_job

from phjob_core.messages import JobSeen
from phjob_core.object_cache import MAX_TOMBSTONES, ObjectCache


def test_a_fact_older_than_the_snapshot_changes_nothing() -> None:
    """It was in transit during the LIST."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.reset(100)
    assert not view.upsert(a_job(resource_version=100))
    assert view.upsert(a_job(resource_version=101))


def test_a_fact_of_the_snapshot_may_have_any_age() -> None:
    """An object that never changed has an old revision."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.reset(100)
    assert view.upsert(a_job(resource_version=7), from_snapshot=True)
    assert len(view) == 1


def test_a_fact_not_newer_than_the_stored_one_changes_nothing() -> None:
    """The response to our own write may arrive before the watch event about it."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.reset(1)
    assert view.upsert(a_job(resource_version=9))
    assert not view.upsert(a_job(resource_version=9))
    assert not view.upsert(a_job(resource_version=8))


def test_an_old_deletion_does_not_remove_a_listed_object() -> None:
    """The LIST is newer, so the object was created again."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.reset(100)
    job = a_job(resource_version=90)
    view.upsert(job, from_snapshot=True)
    assert view.delete(job.uid, 95) is None
    assert view.delete(job.uid, 101) == job
    assert len(view) == 0


def test_the_response_to_our_own_write_survives_an_older_snapshot() -> None:
    """Otherwise a job that was just admitted would look Pending, and its pod like a stray."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.reset(100)
    written = a_job(resource_version=120, phase="Preparing")
    view.upsert(written)
    view.reset(110)
    assert not view.upsert(a_job(resource_version=90), from_snapshot=True)
    assert view.get(written.uid) == written


def test_an_object_that_a_newer_snapshot_lacks_is_removed() -> None:
    """It was deleted, and the deletion may have been lost."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.upsert(a_job(resource_version=90))
    view.reset(100)
    assert len(view) == 0


def test_a_late_response_to_our_own_write_does_not_bring_a_deleted_object_back() -> None:
    """Nothing would remove it again, because the watch has reported its deletion already."""
    view: ObjectCache[JobSeen] = ObjectCache()
    job = a_job(resource_version=90)
    view.upsert(job)
    assert view.delete(job.uid, 95) == job
    assert not view.upsert(a_job(resource_version=94))
    assert view.get(job.uid) is None


def test_an_evicted_object_does_not_come_back() -> None:
    """Its later states do not matter, until the next snapshot."""
    view: ObjectCache[JobSeen] = ObjectCache()
    job = a_job(resource_version=90)
    view.upsert(job)
    view.evict(job.uid)
    assert view.get(job.uid) is None
    assert not view.upsert(a_job(resource_version=91))


def test_the_oldest_tombstones_are_discarded() -> None:
    """A process that runs for months would otherwise remember every job that ever was deleted."""
    view: ObjectCache[JobSeen] = ObjectCache()
    for number in range(MAX_TOMBSTONES + 1):
        view.evict(f"uid-{number}")
    assert view.upsert(a_job("0", uid="uid-0"))
    assert not view.upsert(a_job("1", uid="uid-1"))


def test_iteration_yields_the_latest_facts() -> None:
    """One for each object."""
    view: ObjectCache[JobSeen] = ObjectCache()
    view.upsert(a_job("a", resource_version=1))
    latest = [a_job("a", resource_version=2), a_job("b", resource_version=1)]
    for fact in latest:
        view.upsert(fact)
    assert list(view) == latest

"""Which of the requests that have piled up the watcher answers."""

from shared.messages import CatalogWanted, Heartbeat, Message, SnapshotWanted
from watcher.handlers import latest


def wanted(request: str, queue: str = "scheduler.0") -> SnapshotWanted:
    return SnapshotWanted(queue=queue, request=request)


def test_an_asker_waits_for_its_latest_request_alone() -> None:
    """Also if an older one is delivered after it."""
    assert latest([wanted("me/1"), wanted("me/3"), wanted("me/2")]) == [wanted("me/3")]


def test_two_askers_of_a_queue_are_both_answered() -> None:
    """One of them may be dead, and nobody here knows which."""
    both: list[Message] = [wanted("old/7"), wanted("new/1")]
    assert latest(both) == both


def test_every_queue_and_every_kind_of_request_is_answered() -> None:
    """What is no request is none."""
    catalog = [CatalogWanted(queue="scheduler.0", request=number) for number in (2, 1)]
    other = wanted("me/1", "janitor.0")
    assert latest([wanted("me/1"), *catalog, Heartbeat(), None, other]) == [wanted("me/1"), catalog[0], other]

"""Which of the waiting requests the watcher answers, and which deliveries an answer acknowledges."""

from collections.abc import Iterator

from tests.fakes.broker import FakeDelivery

from phjob_core.messages import CatalogRequest, SnapshotRequest
from phjob_core.stream import Envelope
from phjob_watcher.snapshot_requests import Request, SnapshotRequests


def a_delivery(number: int, request: Request) -> FakeDelivery:
    return FakeDelivery(Envelope("scheduler", "session", number, request))


def a_request(request: str, queue: str = "scheduler.0") -> SnapshotRequest:
    return SnapshotRequest(queue=queue, request=request)


def waiting(*requests: Request) -> SnapshotRequests:
    """Return these requests, whose deliveries are numbered."""
    waiting = SnapshotRequests()
    for number, request in enumerate(requests):
        waiting.add(request, a_delivery(number, request))
    return waiting


def answers(requests: SnapshotRequests) -> Iterator[tuple[Request, list[int]]]:
    """Yield each request that is answered, with the numbers of the deliveries to acknowledge."""
    while requests:
        yield requests.first(), [delivery.envelope.sequence for delivery in requests.pop_answered()]


def test_only_the_latest_request_of_a_requester_is_answered() -> None:
    """Also if an older one is delivered after it."""
    requests = waiting(a_request("me/1"), a_request("me/3"), a_request("me/2"))
    assert list(answers(requests)) == [(a_request("me/3"), [0, 1, 2])]


def test_two_requesters_of_a_queue_are_both_answered() -> None:
    """One of them may have stopped, but the watcher does not know which."""
    assert list(answers(waiting(a_request("old/7"), a_request("new/1")))) == [
        (a_request("old/7"), [0]), (a_request("new/1"), [1]),
    ]  # fmt: skip


def test_every_queue_and_every_kind_of_request_is_answered() -> None:
    """In the order of the requesters' first requests."""
    catalog = [CatalogRequest(queue="scheduler.0", request=number) for number in (2, 1)]
    other = a_request("me/1", "janitor.0")
    assert list(answers(waiting(a_request("me/1"), *catalog, other))) == [
        (a_request("me/1"), [0]), (catalog[0], [1, 2]), (other, [3]),
    ]  # fmt: skip


def test_a_request_after_an_answer_is_answered_as_well() -> None:
    """After those that were there before it."""
    requests = waiting(a_request("me/1"), a_request("me/1", "janitor.0"))
    requests.pop_answered()
    requests.add(a_request("me/2"), a_delivery(2, a_request("me/2")))
    assert [request for request, _ in answers(requests)] == [
        a_request("me/1", "janitor.0"), a_request("me/2"),
    ]  # fmt: skip


def test_heartbeats_can_name_the_request_in_progress_of_each_queue() -> None:
    """The latest one. A consumer that sees it keeps waiting for the answer."""
    requests = waiting(a_request("me/1"), a_request("me/2"), a_request("it/5", "janitor.0"))
    assert requests.snapshots() == {"scheduler.0": "me/2", "janitor.0": "it/5"}

"""Which of the requests that wait the watcher answers, and when each is acknowledged."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.messages import CatalogWanted, SnapshotWanted
from shared.session import Envelope
from watcher.requests import Requests, Wanted


@dataclass
class _Delivery:
    envelope: Envelope

    def ack(self) -> None: ...

    def bury(self, reason: str) -> None: ...


def delivery(number: int, request: Wanted) -> _Delivery:
    return _Delivery(Envelope("scheduler", "session", number, request))


def wanted(request: str, queue: str = "scheduler.0") -> SnapshotWanted:
    return SnapshotWanted(queue=queue, request=request)


def asked(*requests: Wanted) -> Requests:
    """By deliveries that are numbered."""
    asked = Requests()
    for number, request in enumerate(requests):
        asked.add(request, delivery(number, request))
    return asked


def answers(requests: Requests) -> Iterator[tuple[Wanted, list[int]]]:
    """Each, with the numbers of the deliveries that it settles."""
    while requests:
        yield requests.first(), [settled.envelope.number for settled in requests.answered()]


def test_an_asker_waits_for_its_latest_request_alone() -> None:
    """Also if an older one is delivered after it."""
    requests = asked(wanted("me/1"), wanted("me/3"), wanted("me/2"))
    assert list(answers(requests)) == [(wanted("me/3"), [0, 1, 2])]


def test_two_askers_of_a_queue_are_both_answered() -> None:
    """One of them may be dead, and nobody here knows which."""
    assert list(answers(asked(wanted("old/7"), wanted("new/1")))) == [
        (wanted("old/7"), [0]), (wanted("new/1"), [1]),
    ]  # fmt: skip


def test_every_queue_and_every_kind_of_request_is_answered() -> None:
    """In the order in which their askers came."""
    catalog = [CatalogWanted(queue="scheduler.0", request=number) for number in (2, 1)]
    other = wanted("me/1", "janitor.0")
    assert list(answers(asked(wanted("me/1"), *catalog, other))) == [
        (wanted("me/1"), [0]), (catalog[0], [1, 2]), (other, [3]),
    ]  # fmt: skip


def test_what_comes_after_the_answer_is_answered_too() -> None:
    """And waits behind those who came before."""
    requests = asked(wanted("me/1"), wanted("me/1", "janitor.0"))
    requests.answered()
    requests.add(wanted("me/2"), delivery(2, wanted("me/2")))
    assert [request for request, _ in answers(requests)] == [wanted("me/1", "janitor.0"), wanted("me/2")]


def test_who_waits_is_told_that_the_watcher_knows() -> None:
    """The latest request of each queue."""
    requests = asked(wanted("me/1"), wanted("me/2"), wanted("it/5", "janitor.0"))
    assert requests.snapshots() == {"scheduler.0": "me/2", "janitor.0": "it/5"}

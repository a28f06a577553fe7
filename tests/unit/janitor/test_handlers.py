from datetime import datetime

from tests.unit.facts import START, a_group, a_job, at, later

from janitor.handlers import AGAIN, Handlers
from shared.messages import (
    Forget,
    GiveUp,
    Message,
    NodeSeen,
    Reclaim,
    Record,
    RecordsListed,
    RecordsWanted,
    SnapshotBegin,
    SnapshotWanted,
    TimeOut,
)
from shared.phjob import Phase
from shared.session import Envelope
from shared.settings import JobSubmission


class Janitor:
    """The janitor's handlers, with a clock that a test sets and everything they sent."""

    def __init__(self, settings: JobSubmission | None = None) -> None:
        self.time = START
        self.sent: list[tuple[str, Message | None]] = []
        self.handlers = Handlers(
            0, 1, self, self._send, settings or JobSubmission(defaultActiveDeadlineSeconds=1000)
        )
        self.handlers.ask("request")
        assert self.take() == [("watcher", SnapshotWanted(queue="janitor.0", request="request"))]
        self.handlers.begin(
            SnapshotBegin(request="request", revisions={"phjobs": 0, "phgroups": 0, "nodes": 0})
        )

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    def _send(self, queue: str, envelope: Envelope) -> None:
        self.sent.append((queue, envelope.message))

    def take(self) -> list[tuple[str, Message | None]]:
        sent, self.sent = self.sent, []
        return sent

    def orders_at(self, time: datetime) -> list[Message | None]:
        self.time = time
        due = self.handlers.due()
        if due and due <= time:
            self.handlers.tick()
        return [message for _, message in self.take()]


def test_an_order_is_repeated_until_it_has_an_effect() -> None:
    """A lost one does no harm."""
    janitor = Janitor()
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=5)
    janitor.handlers.fact(job, listed=True)
    assert janitor.orders_at(at(4.9)) == []
    (order,) = janitor.orders_at(at(5))
    assert isinstance(order, Reclaim)
    assert janitor.orders_at(at(6)) == []
    assert len(janitor.orders_at(at(5) + AGAIN)) == 1


def test_an_order_under_way_is_not_given_again_because_its_job_says_something_else() -> None:
    """That its log was stored, say; but at once if it was edited."""
    janitor = Janitor()
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=5)
    janitor.handlers.fact(job, listed=True)
    assert len(janitor.orders_at(at(5))) == 1
    janitor.handlers.fact(later(job, log_url="file:///log"), listed=False)
    assert janitor.orders_at(at(6)) == []
    janitor.handlers.fact(later(job, ttl_seconds_after_finished=6, generation=2), listed=False)
    assert len(janitor.orders_at(at(6))) == 1


def test_a_groups_default_deadline_counts_even_when_it_is_told_after_its_jobs() -> None:
    """And an edit of it takes effect at once."""
    janitor = Janitor()
    job = a_job(phase=Phase.RUNNING, start_time=START)
    janitor.handlers.fact(job, listed=True)
    janitor.handlers.fact(a_group(default_active_deadline_seconds=20), listed=True)
    janitor.handlers.end()
    assert janitor.handlers.due() == at(20)
    janitor.handlers.fact(a_group(default_active_deadline_seconds=10), listed=False)
    (order,) = janitor.orders_at(at(10))
    assert isinstance(order, TimeOut)


def test_an_edited_deadline_takes_effect_at_once() -> None:
    """contract.md: activeDeadlineSeconds may be changed at any time."""
    janitor = Janitor()
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=100)
    janitor.handlers.fact(job, listed=True)
    janitor.handlers.fact(later(job, active_deadline_seconds=5), listed=False)
    assert janitor.handlers.due() == at(5)
    janitor.handlers.fact(later(job, active_deadline_seconds=0), listed=False)
    assert janitor.handlers.due() is None


def test_a_job_whose_node_is_lost_is_given_up_after_the_grace_unless_the_node_comes_back() -> None:
    """contract.md, Lifecycle: nodeLostGraceSeconds."""
    janitor = Janitor(JobSubmission(nodeLostGraceSeconds=60, defaultActiveDeadlineSeconds=0))
    job = a_job(phase=Phase.RUNNING, start_time=START, node="node-1", reason="NodeLost")
    node = NodeSeen(uid="n", name="node-1", resource_version=10**6, lost_since=at(10))
    janitor.handlers.fact(job, listed=True)
    janitor.handlers.fact(node, listed=True)
    assert janitor.handlers.due() == at(70)
    back = node.model_copy(update={"resource_version": node.resource_version + 1, "lost_since": None})
    janitor.handlers.fact(back, listed=False)
    assert janitor.handlers.due() is None
    lost = node.model_copy(update={"resource_version": node.resource_version + 2})
    janitor.handlers.fact(lost, listed=False)
    (order,) = janitor.orders_at(at(70))
    assert isinstance(order, GiveUp)


def test_the_history_is_asked_for_and_what_is_over_its_limits_forgotten() -> None:
    """Also a finished job whose pod still stands; an answer to an older question counts no more."""
    janitor = Janitor(JobSubmission(historyLimit=1))
    standing = a_job("standing", phase=Phase.FAILED, finish_time=at(2), ttl_seconds_after_finished=0)
    janitor.handlers.fact(standing, listed=True)
    janitor.handlers.end()
    (wanted,) = janitor.orders_at(START)
    assert isinstance(wanted, RecordsWanted)
    oldest = tuple(
        Record(uid=f"uid-{n}", name=f"job-{n}", group="phusers", finish_time=at(n)) for n in (1, 3)
    )
    listed = RecordsListed(request=wanted.request, total=2, oldest=oldest)
    janitor.handlers.fact(listed.model_copy(update={"request": wanted.request + 1}), listed=False)
    assert janitor.take() == []
    janitor.handlers.fact(listed, listed=False)
    orders = [message for _, message in janitor.take()]
    assert [(type(order), order.name) for order in orders if isinstance(order, Forget)] == [
        (Forget, "job-1"),
        (Forget, "standing"),
    ]


def test_without_limits_nobody_asks_for_the_history() -> None:
    """contract.md, Lifecycle: both 0 is keep."""
    janitor = Janitor()
    janitor.handlers.end()
    assert janitor.handlers.due() is None

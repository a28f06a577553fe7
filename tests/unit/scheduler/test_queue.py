import string
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.facts import at
from tests.unit.scheduler import reference

from scheduler.queue import GroupQueue, Waiting
from shared.phjob import Reason
from shared.resources import Amounts


def waiting(uid: str, user: str, gpus: int, second: float = 0, revision: int = 0) -> Waiting:
    return Waiting(uid, user, {"gpu": gpus}, (at(second), revision or ord(uid[0]), uid))


def queue_of(*jobs: Waiting, user_quota: Amounts, group_quota: Amounts) -> GroupQueue:
    queue = GroupQueue()
    queue.set_quota(user_quota, group_quota)
    for job in jobs:
        queue.add(job)
    return queue


def admitted(queue: GroupQueue) -> list[str]:
    return [job.uid for job in queue.decide()]


FOUR_EACH: dict[str, Any] = {"user_quota": {"gpu": 4}, "group_quota": {"gpu": 4}}


def test_a_job_short_of_group_quota_blocks_everybody_behind_it() -> None:
    """Seed, Scheduler, Example 1."""
    queue = queue_of(waiting("A", "bob", 2), waiting("B", "pan", 4), waiting("C", "lin", 2), **FOUR_EACH)
    assert admitted(queue) == ["A"]
    assert queue.why("B") == (Reason.GROUP_QUOTA, "group quota: gpu 2 of 4 used, needs 4")
    assert queue.why("C") == (Reason.QUEUED, "")


def test_a_job_short_of_user_quota_blocks_nobody_else() -> None:
    """Seed, Scheduler, Example 2."""
    queue = queue_of(waiting("A", "bob", 2), waiting("B", "bob", 4), waiting("C", "lin", 2), **FOUR_EACH)
    assert admitted(queue) == ["A", "C"]
    assert queue.why("B") == (Reason.USER_QUOTA, "user quota: gpu 2 of 4 used, needs 4")


def test_the_users_later_jobs_wait_behind_a_parked_one() -> None:
    """Queueing 2: too little user quota parks that user, not that job alone."""
    queue = queue_of(waiting("A", "bob", 4), waiting("B", "bob", 2), user_quota={"gpu": 3}, group_quota={})
    assert admitted(queue) == []


def test_what_is_released_lets_the_parked_user_go() -> None:
    """A parked user is looked at again as soon as something of his ends."""
    queue = queue_of(waiting("A", "bob", 4), waiting("B", "bob", 4), **FOUR_EACH)
    assert admitted(queue) == ["A"]
    queue.release("A")
    assert admitted(queue) == ["B"]


def test_jobs_of_one_second_go_in_the_order_of_their_creation() -> None:
    """Queueing 1: the revision at creation decides within a second."""
    jobs = [waiting(uid, "bob", 1, revision=revision) for uid, revision in (("z", 1), ("a", 2), ("m", 3))]
    queue = queue_of(*reversed(jobs), user_quota={}, group_quota={})
    assert admitted(queue) == ["z", "a", "m"]


def test_a_job_put_in_front_goes_before_the_one_that_blocked() -> None:
    """A requeued job keeps its place by creation time."""
    queue = queue_of(waiting("B", "pan", 4, second=1), **FOUR_EACH)
    queue.hold("notebook", "lin", {"gpu": 1})
    assert admitted(queue) == []
    queue.add(waiting("A", "bob", 3, second=0))
    assert admitted(queue) == ["A"]
    assert queue.blocked == "B"


def test_a_raised_quota_lets_the_waiting_go() -> None:
    """Quota edits take effect while jobs wait."""
    queue = queue_of(waiting("A", "bob", 2), user_quota={"gpu": 1}, group_quota={})
    assert admitted(queue) == []
    queue.set_quota({"gpu": 2}, {})
    assert admitted(queue) == ["A"]


def test_what_can_never_fit_is_told_with_resource_request_and_limit() -> None:
    """Queueing 4."""
    queue = queue_of(user_quota={"gpu": 4}, group_quota={"memory": 2 * 1024**3})
    assert queue.impossible({"gpu": 8}) == "needs gpu 8, but the user quota is 4"
    assert queue.impossible({"memory": 4 * 1024**3}) == "needs memory 4Gi, but the group quota is 2Gi"
    assert not queue.impossible({"gpu": 4, "cpu": 10**9})


def test_removing_many_jobs_behind_a_blocked_head_leaves_no_garbage() -> None:
    """Memory follows the number of jobs, however often they come and go."""
    queue = queue_of(waiting("A", "bob", 4), user_quota={}, group_quota={"gpu": 2})
    admitted(queue)
    for number in range(1000):
        queue.add(waiting("x", "bob", 1, second=1 + number))
        queue.remove("x")
    assert len(queue._heads) < 10


AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.integers(0, 4), max_size=2)


class QueueAgainstReference(RuleBasedStateMachine):
    """Whatever happens to the queue, it decides what the naive rules decide."""

    @initialize(user_quota=AMOUNTS, group_quota=AMOUNTS)
    def start(self, user_quota: Amounts, group_quota: Amounts) -> None:
        self.queue = queue_of(user_quota=user_quota, group_quota=group_quota)
        self.waiting: dict[str, Waiting] = {}
        self.holds: dict[str, tuple[str, Amounts]] = {}
        self.revision = 0

    @rule(
        uid=st.sampled_from(string.ascii_lowercase),
        user=st.sampled_from(["bob", "lin", "pan"]),
        request=AMOUNTS,
        second=st.integers(0, 3),
    )
    def add(self, uid: str, user: str, request: Amounts, second: int) -> None:
        if uid not in self.holds:
            self.revision += 1
            known = self.waiting.get(uid)
            job = Waiting(uid, known.user if known else user, request, (at(second), self.revision, uid))
            self.waiting[uid] = job
            self.queue.add(job)

    @rule(uid=st.sampled_from(string.ascii_lowercase))
    def remove(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        self.queue.remove(uid)

    @rule(uid=st.sampled_from(string.ascii_lowercase))
    def release(self, uid: str) -> None:
        self.holds.pop(uid, None)
        self.queue.release(uid)

    @rule(number=st.integers(0, 3), user=st.sampled_from(["bob", "lin"]), amounts=AMOUNTS)
    def notebook(self, number: int, user: str, amounts: Amounts) -> None:
        self.holds[f"notebook-{number}"] = (user, amounts)
        self.queue.hold(f"notebook-{number}", user, amounts)

    @rule(number=st.integers(0, 3))
    def notebook_ends(self, number: int) -> None:
        self.holds.pop(f"notebook-{number}", None)
        self.queue.release(f"notebook-{number}")

    @rule(user_quota=AMOUNTS, group_quota=AMOUNTS)
    def edit_quota(self, user_quota: Amounts, group_quota: Amounts) -> None:
        self.queue.set_quota(user_quota, group_quota)

    @rule()
    def decide(self) -> None:
        expected = reference.decide(
            list(self.waiting.values()),
            list(self.holds.values()),
            self.queue.user_quota,
            self.queue.group_quota,
        )
        assert admitted(self.queue) == expected.admitted
        for uid in expected.admitted:
            job = self.waiting.pop(uid)
            self.holds[uid] = (job.user, job.request)
        for uid, job in self.waiting.items():
            reason = self.queue.why(uid)[0]
            if uid in expected.reasons or reason is not Reason.USER_QUOTA:
                assert reason == expected.reasons.get(uid, Reason.QUEUED)
            else:
                # It stands behind a head that blocks the group, and was parked before: still true.
                assert self.short_of_user_quota(job)

    def short_of_user_quota(self, job: Waiting) -> bool:
        held = [amounts for user, amounts in self.holds.values() if user == job.user]
        return any(
            sum(amounts.get(resource, 0) for amounts in held) + needs > self.queue.user_quota[resource]
            for resource, needs in job.request.items()
            if resource in self.queue.user_quota
        )

    @invariant()
    def adds_up(self) -> None:
        if hasattr(self, "queue"):
            for resource in ("cpu", "gpu"):
                total = sum(amounts.get(resource, 0) for _, amounts in self.holds.values())
                assert self.queue.ledger.group.get(resource, 0) == total


TestQueueAgainstReference = QueueAgainstReference.TestCase
TestQueueAgainstReference.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)

import pickle
import string
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.fakes import reference_queue
from tests.fakes.facts import at

from phjob_core.api import Reason
from phjob_core.quantities import Amounts
from phjob_core.scheduling.queue import IN_ORDER, GroupQueue, QueuedJob


def waiting(uid: str, user: str, gpus: int, second: float = 0, revision: int = 0) -> QueuedJob:
    return QueuedJob(uid, user, {"gpu": gpus}, (IN_ORDER, at(second), revision or ord(uid[0]), uid))


def queue_of(*jobs: QueuedJob, user_quota: Amounts, group_quota: Amounts) -> GroupQueue:
    queue = GroupQueue()
    queue.set_quota(user_quota, group_quota)
    for job in jobs:
        queue.add(job)
    return queue


def admitted(queue: GroupQueue) -> list[str]:
    return [job.uid for job in queue.decide()]


FOUR_EACH: dict[str, Any] = {"user_quota": {"gpu": 4}, "group_quota": {"gpu": 4}}


def test_a_job_that_exceeds_the_group_quota_blocks_all_jobs_behind_it() -> None:
    """The example of spec.md, Q2a."""
    queue = queue_of(waiting("A", "bob", 2), waiting("B", "pan", 4), waiting("C", "lin", 2), **FOUR_EACH)
    assert admitted(queue) == ["A"]
    assert queue.pending_reason("B") == (Reason.GROUP_QUOTA, "group quota: gpu 2 of 4 used, needs 4")
    assert queue.pending_reason("C") == (Reason.QUEUED, "")


def test_a_job_that_exceeds_the_user_quota_blocks_no_other_user() -> None:
    """The example of spec.md, Q2b."""
    queue = queue_of(waiting("A", "bob", 2), waiting("B", "bob", 4), waiting("C", "lin", 2), **FOUR_EACH)
    assert admitted(queue) == ["A", "C"]
    assert queue.pending_reason("B") == (Reason.USER_QUOTA, "user quota: gpu 2 of 4 used, needs 4")


def test_a_users_later_jobs_wait_behind_one_that_exceeds_the_user_quota() -> None:
    """Too little user quota blocks the user, not only that job (spec.md, Q2)."""
    queue = queue_of(waiting("A", "bob", 4), waiting("B", "bob", 2), user_quota={"gpu": 3}, group_quota={})
    assert admitted(queue) == []


def test_a_blocked_queue_does_not_grow_with_the_jobs_that_come_and_go() -> None:
    """Nor with jobs that are added again, as each change of the catalog does."""
    queue = queue_of(waiting("A", "bob", 4), waiting("B", "bob", 4), user_quota={}, group_quota={"gpu": 4})
    assert admitted(queue) == ["A"]
    behind = [waiting(uid, user, 1, second=1) for uid, user in zip("CDEFGH", ("bob", "pan") * 3, strict=True)]

    def size_after(rounds: int) -> int:
        for number in range(rounds):
            for job in behind:
                queue.add(job)
            passing = waiting(f"X{number}", "lin", 1, second=2 + number)
            queue.add(passing)
            assert admitted(queue) == []
            queue.remove(passing.uid)
        return len(pickle.dumps(queue))

    early = size_after(100)
    assert size_after(2000) < 2 * early


def test_a_release_unblocks_the_user() -> None:
    """The next decision considers a blocked user again when one of the user's jobs ends."""
    queue = queue_of(waiting("A", "bob", 4), waiting("B", "bob", 4), **FOUR_EACH)
    assert admitted(queue) == ["A"]
    queue.release("A")
    assert admitted(queue) == ["B"]


def test_jobs_of_one_second_are_admitted_in_the_order_of_their_creation() -> None:
    """Within a second, the revision at creation decides (spec.md, Q1)."""
    jobs = [waiting(uid, "bob", 1, revision=revision) for uid, revision in (("z", 1), ("a", 2), ("m", 3))]
    queue = queue_of(*reversed(jobs), user_quota={}, group_quota={})
    assert admitted(queue) == ["z", "a", "m"]


def test_a_job_that_is_inserted_in_front_is_admitted_before_the_one_that_blocked() -> None:
    """A requeued job keeps its position."""
    queue = queue_of(waiting("B", "pan", 4, second=1), **FOUR_EACH)
    queue.charge("notebook", "lin", {"gpu": 1})
    assert admitted(queue) == []
    queue.add(waiting("A", "bob", 3, second=0))
    assert admitted(queue) == ["A"]
    assert queue.blocking_job == "B"


def test_a_job_that_is_added_again_has_only_its_new_position() -> None:
    """The entry of the old position in the heap is outdated."""
    queue = queue_of(waiting("A", "bob", 1, second=0), waiting("B", "lin", 1, second=1), **FOUR_EACH)
    queue.add(waiting("A", "bob", 1, second=2))
    assert admitted(queue) == ["B", "A"]


def test_a_raised_quota_admits_waiting_jobs() -> None:
    """An edit applies to all waiting jobs at once (spec.md, Q9)."""
    queue = queue_of(waiting("A", "bob", 2), user_quota={"gpu": 1}, group_quota={})
    assert admitted(queue) == []
    queue.set_quota({"gpu": 2}, {})
    assert admitted(queue) == ["A"]


def test_the_head_is_the_job_that_blocks_otherwise_the_first_one() -> None:
    """A group's status names it. A job that exceeds only its user's quota does not block the group."""
    queue = queue_of(**FOUR_EACH)
    assert queue.head() is None
    queue.charge("notebook", "pan", {"gpu": 1})
    for job in (waiting("B", "lin", 4, second=1), waiting("A", "bob", 1, second=2)):
        queue.add(job)
    assert queue.head() == "B", "before a decision, it is the first one"
    queue.add(waiting("C", "pan", 4, second=0))
    assert admitted(queue) == []
    assert queue.blocking_job == "B"
    assert queue.head() == "B", "C exceeds only the quota of its user"
    queue.remove("B")
    assert queue.head() == "C"


def test_a_request_that_can_never_fit_is_described_with_resource_request_and_quota() -> None:
    """The user reads it in the job's status (spec.md, Q4)."""
    queue = queue_of(user_quota={"gpu": 4}, group_quota={"memory": 2 * 1024**3})
    assert queue.infeasibility({"gpu": 8}) == "needs gpu 8, but the user quota is 4"
    assert queue.infeasibility({"memory": 4 * 1024**3}) == "needs memory 4Gi, but the group quota is 2Gi"
    assert not queue.infeasibility({"gpu": 4, "cpu": 10**9})


def test_removing_many_jobs_behind_a_blocked_head_leaves_no_garbage() -> None:
    """The heap must not grow with the number of jobs that came and went."""
    queue = queue_of(waiting("A", "bob", 4), user_quota={}, group_quota={"gpu": 2})
    admitted(queue)
    for number in range(1000):
        queue.add(waiting("x", "bob", 1, second=1 + number))
        queue.remove("x")
    assert len(queue.heads) < 10


AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.integers(0, 4), max_size=2)


class QueueAgainstReference(RuleBasedStateMachine):
    """After any operations, the queue decides as the naive rules do."""

    @initialize(user_quota=AMOUNTS, group_quota=AMOUNTS)
    def start(self, user_quota: Amounts, group_quota: Amounts) -> None:
        self.queue = queue_of(user_quota=user_quota, group_quota=group_quota)
        self.waiting: dict[str, QueuedJob] = {}
        self.charges: dict[str, tuple[str, Amounts]] = {}
        self.revision = 0

    @rule(
        uid=st.sampled_from(string.ascii_lowercase),
        user=st.sampled_from(["bob", "lin", "pan"]),
        request=AMOUNTS,
        second=st.integers(0, 3),
    )
    def add(self, uid: str, user: str, request: Amounts, second: int) -> None:
        if uid not in self.charges:
            self.revision += 1
            known = self.waiting.get(uid)
            job = QueuedJob(
                uid, known.user if known else user, request, (IN_ORDER, at(second), self.revision, uid)
            )
            self.waiting[uid] = job
            self.queue.add(job)

    @rule(uid=st.sampled_from(string.ascii_lowercase))
    def remove(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        self.queue.remove(uid)

    @rule(uid=st.sampled_from(string.ascii_lowercase))
    def release(self, uid: str) -> None:
        self.charges.pop(uid, None)
        self.queue.release(uid)

    @rule(number=st.integers(0, 3), user=st.sampled_from(["bob", "lin"]), amounts=AMOUNTS)
    def notebook(self, number: int, user: str, amounts: Amounts) -> None:
        self.charges[f"notebook-{number}"] = (user, amounts)
        self.queue.charge(f"notebook-{number}", user, amounts)

    @rule(number=st.integers(0, 3))
    def notebook_ends(self, number: int) -> None:
        self.charges.pop(f"notebook-{number}", None)
        self.queue.release(f"notebook-{number}")

    @rule(user_quota=AMOUNTS, group_quota=AMOUNTS)
    def edit_quota(self, user_quota: Amounts, group_quota: Amounts) -> None:
        self.queue.set_quota(user_quota, group_quota)

    @rule()
    def decide(self) -> None:
        expected = reference_queue.decide(
            list(self.waiting.values()),
            list(self.charges.values()),
            self.queue.user_quota,
            self.queue.group_quota,
        )
        assert admitted(self.queue) == expected.admitted
        for uid in expected.admitted:
            job = self.waiting.pop(uid)
            self.charges[uid] = (job.user, job.request)
        for uid, job in self.waiting.items():
            reason = self.queue.pending_reason(uid)[0]
            if uid in expected.reasons or reason is not Reason.USER_QUOTA:
                assert reason == expected.reasons.get(uid, Reason.QUEUED)
            else:
                # It is behind a head that blocks the group, and its user was blocked before that.
                assert self.short_of_user_quota(job)

    def short_of_user_quota(self, job: QueuedJob) -> bool:
        used = [amounts for user, amounts in self.charges.values() if user == job.user]
        return any(
            sum(amounts.get(resource, 0) for amounts in used) + needs > self.queue.user_quota[resource]
            for resource, needs in job.request.items()
            if resource in self.queue.user_quota
        )

    @invariant()
    def adds_up(self) -> None:
        if hasattr(self, "queue"):
            for resource in ("cpu", "gpu"):
                total = sum(amounts.get(resource, 0) for _, amounts in self.charges.values())
                assert self.queue.ledger.group_usage.get(resource, 0) == total


TestQueueAgainstReference = pytest.mark.usefixtures("without_coverage")(QueueAgainstReference.TestCase)
TestQueueAgainstReference.settings = settings(max_examples=400, stateful_step_count=50, deadline=None)

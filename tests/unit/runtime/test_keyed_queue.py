"""The work queue by key: sequence, parallelism, failures, draining and closing."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from phjob_runtime import keyed_queue
from phjob_runtime.keyed_queue import KeyedWorkQueue

MANY = 100
"""More keys than any test has."""


class Worker:
    """Work that ends only when the test releases it."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.running: Counter[str] = Counter()
        self.failing = False
        self._released: dict[str, asyncio.Event] = {}

    async def work(self, key: str) -> None:
        self.started.append(key)
        self.running[key] += 1
        assert self.running[key] == 1
        try:
            await self._released.setdefault(key, asyncio.Event()).wait()
            if self.failing:
                raise ZeroDivisionError
        finally:
            self.running[key] -= 1
            self.ended.append(key)

    async def release(self, key: str) -> None:
        """Let the running work of a key end, and any that starts later wait again."""
        released, self._released[key] = self._released[key], asyncio.Event()
        released.set()
        await let_run()


async def let_run() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_different_keys_run_in_parallel() -> None:
    """A key whose work is slow holds up no other key."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    for key in "abc":
        queue.add(key)
    await let_run()
    assert worker.started == ["a", "b", "c"]
    assert len(queue) == 3
    await worker.release("b")
    assert worker.ended == ["b"]
    assert len(queue) == 2
    await queue.close()


async def test_a_key_that_is_added_while_its_work_runs_runs_once_more() -> None:
    """However often it was added, and never twice at the same time."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    await let_run()
    for _ in range(3):
        queue.add("a")
    await let_run()
    assert worker.started == ["a"]
    await worker.release("a")
    assert worker.started == ["a", "a"]
    await worker.release("a")
    assert worker.started == ["a", "a"]
    assert len(queue) == 0


async def test_work_that_fails_is_reported_and_runs_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure ends the work of this key only."""
    monkeypatch.setattr(keyed_queue, "RETRY_SECONDS", 0.01)
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    queue.add("b")
    await let_run()
    worker.failing = True
    await worker.release("a")
    assert (worker.ended, len(queue)) == (["a"], 1)
    worker.failing = False
    await asyncio.sleep(0.05)
    assert worker.started == ["a", "b", "a"]
    await queue.close()


async def test_drain_waits_for_work_that_runs_and_that_waits() -> None:
    """Also for a key that is added while `drain` waits."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    await let_run()
    queue.add("a")
    draining = asyncio.create_task(queue.drain())
    await let_run()
    queue.add("b")
    await let_run()
    await worker.release("a")
    assert not draining.done()
    await worker.release("a")
    assert not draining.done()
    await worker.release("b")
    assert draining.done()
    assert worker.ended == ["a", "a", "b"]


async def test_drain_returns_at_once_if_the_queue_is_idle() -> None:
    """Whether it was used before or not."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    await asyncio.wait_for(queue.drain(), 1)
    queue.add("a")
    await let_run()
    await worker.release("a")
    await asyncio.wait_for(queue.drain(), 1)


async def test_drain_waits_for_no_retry() -> None:
    """A key that fails forever would otherwise block a fence forever."""
    worker = Worker()
    worker.failing = True
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    await let_run()
    draining = asyncio.create_task(queue.drain())
    await let_run()
    await worker.release("a")
    assert draining.done()
    await queue.close()


async def test_a_cancelled_drain_leaves_the_work_running() -> None:
    """Only `close` cancels work."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    await let_run()
    draining = asyncio.create_task(queue.drain())
    await let_run()
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    assert worker.running["a"] == 1
    await queue.close()


async def test_a_closed_queue_cancels_its_work_and_starts_none() -> None:
    """Messages may still arrive until the connection ends."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, MANY)
    queue.add("a")
    await let_run()
    await queue.close()
    assert worker.ended == ["a"]
    queue.add("b")
    await let_run()
    assert worker.started == ["a"]
    assert len(queue) == 0


async def test_keys_beyond_the_limit_wait_in_order_for_others_to_end() -> None:
    """A task for each of 50,000 keys would take more memory than the jobs."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, 2)
    for key in "abcd":
        queue.add(key)
    queue.add("c")
    await let_run()
    assert (worker.started, len(queue)) == (["a", "b"], 4)
    await worker.release("b")
    assert worker.started == ["a", "b", "c"]
    await worker.release("a")
    assert worker.started == ["a", "b", "c", "d"]
    await worker.release("c")
    assert (worker.started, len(queue)) == (["a", "b", "c", "d"], 1)
    await queue.close()


async def test_a_closed_queue_starts_nothing_that_waited() -> None:
    """The connection of its process is over."""
    worker = Worker()
    queue = KeyedWorkQueue(worker.work, 1)
    queue.add("a")
    queue.add("b")
    await let_run()
    await queue.close()
    assert (worker.started, len(queue)) == (["a"], 0)


async def test_a_key_that_fails_often_is_tried_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who edits a job whose work fails would otherwise add a timer with each edit."""
    timers: list[Callable[[], None]] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda _, retry: timers.append(retry))
    worker = Worker()
    worker.failing = True
    queue = KeyedWorkQueue(worker.work, MANY)
    for _ in range(3):
        queue.add("a")
        await let_run()
        await worker.release("a")
    (retry,) = timers
    worker.failing = False
    retry()
    await let_run()
    assert worker.started == ["a", "a", "a", "a"]
    await queue.close()

"""The scheduler's core without anything around it: no broker, no API server, one process.

`queue`: a group's queue and ledger. `admission`: the scheduler's whole mind, from facts to orders.
"""

import itertools
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import process_time

from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.load import Core
from tests.unit.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, later

from scheduler.admission import Admission
from scheduler.queue import GroupQueue, Waiting
from shared.messages import Admit, Order
from shared.phjob import Phase, PodPhase
from shared.resources import Amounts
from shared.runtime import collect_garbage_seldom

ROOM = 20
ONE: Amounts = {"gpu": 1}
TRIES = 3
"""The best counts: whatever else runs only slows it down. Seconds are this process' own, of the CPU."""
OF_ADMISSION = 5
"""Facts are dear to make: so many times fewer events than of the queue."""
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def core(load: Core) -> Result:
    """Events a second: jobs that come and jobs that end, each followed by the decision who goes."""
    collect_garbage_seldom()  # As the services do.
    figures = list[Figure]()
    for users in load.users:
        for pending in load.pending:
            rate = max(queue(pending, users, load.events) for _ in range(TRIES))
            figures.append(Figure(f"core.queue.{pending}-pending.{users}-users", rate, "events/s"))
    few, many = min(load.pending), max(load.pending)
    by_name = {figure.name: figure.value for figure in figures}
    slower = [
        by_name[f"core.queue.{few}-pending.{users}-users"]
        / by_name[f"core.queue.{many}-pending.{users}-users"]
        for users in load.users
    ]
    for pending in (few, many):
        rate = admission(pending, load.events // OF_ADMISSION)
        figures.append(Figure(f"core.admission.{pending}-pending", rate, "events/s"))
    summary = [
        Figure("core.rate", min(by_name.values()), "events/s"),
        Figure("core.slowdown", max(slower), f"x of {few} pending"),
    ]
    return Result("core", [*summary, *figures])


def queue(pending: int, users: int, events: int) -> float:
    """Events a second of a group's queue in which so many wait all the time."""
    group = GroupQueue()
    group.set_quota({}, {"gpu": ROOM})
    numbers = itertools.count()

    def submitted() -> Waiting:
        number = next(numbers)
        return Waiting(f"uid-{number}", f"user-{number % users}", ONE, (MOMENT, number, f"job-{number}"))

    for _ in range(pending + ROOM):
        group.add(submitted())
    running = deque(job.uid for job in group.decide())
    coming = [submitted() for _ in range(events // 2)]

    def work() -> None:
        for job in coming:
            group.release(running.popleft())
            running.extend(went.uid for went in group.decide())
            group.add(job)
            running.extend(went.uid for went in group.decide())

    return 2 * len(coming) / _seconds(work)


def admission(pending: int, events: int) -> float:
    """Events a second of the whole mind: a job comes; is seen admitted; its pod comes, and ends."""
    mind = Admission("bench")
    mind.catalog_listed(10**9, START)
    mind.catalog.images["base-notebook"] = an_image()
    mind.catalog.instance_types["gpu-1"] = an_instance_type("gpu-1")
    mind.group_seen(a_group(group_quota={"gpu": ROOM}), START)
    jobs = {job.uid: job for job in (a_job(f"job-{n}") for n in range(pending + events // 4))}
    waiting = list(jobs.values())
    for job in waiting[:pending]:
        mind.job_seen(job, START)
    ordered = deque(mind.start(START))
    took = 0.0

    def follow(orders: list[Order]) -> None:
        ordered.extend(order for order in orders if isinstance(order, Admit))

    for job in waiting[pending:]:
        order = ordered.popleft()
        assert isinstance(order, Admit)
        preparing = later(
            jobs[order.uid], phase=Phase.PREPARING, fence=order.token, resources=order.resources
        )
        pod = a_pod(preparing)
        ended = pod.model_copy(update={"phase": PodPhase.SUCCEEDED})
        done = later(preparing, phase=Phase.SUCCEEDED, pod=job.name)
        began = process_time()
        follow(mind.job_seen(job, START))
        follow(mind.job_seen(preparing, START))
        follow(mind.pod_seen(pod, START))
        follow(mind.pod_seen(ended, START))
        follow(mind.job_seen(done, START))
        took += process_time() - began
    return 5 * (len(waiting) - pending) / took


def _seconds(work: Callable[[], None]) -> float:
    began = process_time()
    work()
    return process_time() - began

"""The scheduler's core in a single process, without a broker and an API server.

Two parts are measured: a group's queue with its ledger, and the whole engine, from facts to commands.
"""

import itertools
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import process_time

from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.load import CoreLoad
from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, later

from phjob_core.api import Phase, PodPhase
from phjob_core.messages import Admit, Command
from phjob_core.quantities import Amounts
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.queue import GroupQueue, QueuedJob
from phjob_runtime.service import tune_gc

ROOM = 20
"""The number of jobs that fit into the group's quota."""
ONE: Amounts = {"gpu": 1}
TRIES = 3
"""The number of measurements, of which the best counts: other programs only make a measurement slower.

The seconds are CPU time of this process.
"""
ENGINE_SHARE = 5
"""The divisor of the number of events for the engine, because facts are slow to build."""
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def measure_core(load: CoreLoad) -> Result:
    """Measure events per second: jobs that arrive or end, each followed by a decision."""
    tune_gc()  # As in the services.
    figures = list[Figure]()
    for users in load.users:
        for pending in load.pending:
            rate = max(queue_rate(pending, users, load.events) for _ in range(TRIES))
            figures.append(Figure(f"core.queue.{pending}-pending.{users}-users", rate, "events/s"))
    few, many = min(load.pending), max(load.pending)
    rates = {figure.name: figure.value for figure in figures}
    slowdowns = [
        rates[f"core.queue.{few}-pending.{users}-users"] / rates[f"core.queue.{many}-pending.{users}-users"]
        for users in load.users
    ]
    for pending in (few, many):
        rate = engine_rate(pending, load.events // ENGINE_SHARE)
        figures.append(Figure(f"core.admission.{pending}-pending", rate, "events/s"))
    summary = [
        Figure("core.rate", min(rates.values()), "events/s"),
        Figure("core.slowdown", max(slowdowns), f"x of {few} pending"),
    ]
    return Result("core", [*summary, *figures])


def queue_rate(pending: int, users: int, events: int) -> float:
    """Return the events per second of a group's queue in which so many jobs always wait."""
    group = GroupQueue()
    group.set_quota({}, {"gpu": ROOM})
    numbers = itertools.count()

    def submitted() -> QueuedJob:
        number = next(numbers)
        return QueuedJob(f"uid-{number}", f"user-{number % users}", ONE, (1, MOMENT, number, f"job-{number}"))

    for _ in range(pending + ROOM):
        group.add(submitted())
    running = deque(job.uid for job in group.decide())
    arriving = [submitted() for _ in range(events // 2)]

    def work() -> None:
        for job in arriving:
            group.release(running.popleft())
            running.extend(admitted.uid for admitted in group.decide())
            group.add(job)
            running.extend(admitted.uid for admitted in group.decide())

    return 2 * len(arriving) / _cpu_seconds(work)


def engine_rate(pending: int, events: int) -> float:
    """Return the events per second of the engine while so many jobs wait.

    A job arrives, its admission is observed, its pod appears and succeeds, and the job succeeds.
    """
    engine = SchedulingEngine("bench")
    engine.on_catalog_synced(10**9, START)
    engine.catalog.images["base-notebook"] = an_image()
    engine.catalog.instance_types["gpu-1"] = an_instance_type("gpu-1")
    engine.on_group(a_group(group_quota={"gpu": ROOM}), START)
    jobs = {job.uid: job for job in (a_job(f"job-{n}") for n in range(pending + events // 4))}
    submitted = list(jobs.values())
    for job in submitted[:pending]:
        engine.on_job(job, START)
    admits = deque(engine.start(START))
    seconds = 0.0

    def collect(commands: list[Command]) -> None:
        admits.extend(command for command in commands if isinstance(command, Admit))

    for job in submitted[pending:]:
        command = admits.popleft()
        assert isinstance(command, Admit)
        preparing = later(
            jobs[command.uid], phase=Phase.PREPARING, fence=command.token, resources=command.resources
        )
        pod = a_pod(preparing)
        preparing = preparing.model_copy(update={"pod_uid": pod.uid})
        ended = pod.model_copy(update={"phase": PodPhase.SUCCEEDED})
        done = later(preparing, phase=Phase.SUCCEEDED, pod=job.name)
        began = process_time()
        collect(engine.on_job(job, START))
        collect(engine.on_job(preparing, START))
        collect(engine.on_pod(pod, START))
        collect(engine.on_pod(ended, START))
        collect(engine.on_job(done, START))
        seconds += process_time() - began
    return 5 * (len(submitted) - pending) / seconds


def _cpu_seconds(work: Callable[[], None]) -> float:
    began = process_time()
    work()
    return process_time() - began

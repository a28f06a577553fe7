"""Faults without end: one every few seconds, drawn from a seed, while jobs come and go; memory stays flat.

`make soak` takes half an hour and ten thousand jobs; a plain run is a short one.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from tests.faults.catalogue import FAULTS, LONGER_THAN_HEARTBEAT, of_service
from tests.faults.plant import Plant, plant
from tests.faults.remains import nothing_is_held
from tests.faults.workload import Workload
from tests.support.hub import SERVICES, corner
from tests.support.measures import Measured
from tests.support.waiting import eventually

from dev.services import replicas

SECONDS = 60 * float(os.environ.get("PHJOB_SOAK_MINUTES", "0.5"))
SEED = int(os.environ.get("PHJOB_SOAK_SEED", "1"))
JOBS = max(100, round(SECONDS * 10_000 / 1800))
EVERY = (5, 15)
"""Seconds from one fault's beginning to the next one's."""
LONG = ("30 s", "20 s", f"{LONGER_THAN_HEARTBEAT} s", "half-open", "two replicas")
"""What the names of those faults hold that outlast the next one's beginning."""
AT_A_TIME = 300
"""The most jobs that are unfinished."""
SAMPLED_EVERY = 5.0
GROWTH = 1.25
"""The most that a service's memory may be in the last third of the time, of what it was in the second."""

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A stack of its own, with links in between, that forgets pods and records after a while."""
    with plant(tmp_path_factory.mktemp("soak"), historyLimit=1000, defaultTTLSecondsAfterFinished=60) as of:
        of.stacks[2].up()
        yield of


@pytest.mark.timeout(900 + 3 * SECONDS)
def test_faults_without_end_cost_nothing(breakable: Plant, measured: Measured) -> None:
    """Two replicas of each service; all invariants hold at the end."""
    of_standbys = [fault for service in SERVICES for fault in of_service(f"{service}-2")]
    faults = [f for f in (*FAULTS, *of_standbys) if not any(word in f.name for word in LONG)]
    chance = random.Random(SEED)  # noqa: S311 - a repeatable choice
    begun = time.monotonic()
    happened = 0
    with corner(breakable.stacks[2], breakable.etcd) as hub:
        work = Workload(hub)
        with work.with_users(), memory_of(breakable) as memory, submitting(work):
            while time.monotonic() < begun + SECONDS:
                next_one = time.monotonic() + chance.uniform(*EVERY)
                fault = chance.choice(faults)
                held = ", ".join(f"{name} {of[-1] / 2**20:.0f}" for name, of in memory.items() if of)
                at, jobs = time.monotonic() - begun, work.submitted()
                _log.info("%.0f s, %d jobs, MiB: %s; now %s", at, jobs, held, fault.name)
                with fault.happens(breakable):
                    pass
                happened += 1
                time.sleep(max(0.0, next_one - time.monotonic()))
            breakable.stacks[2].up()
            eventually(lambda: work.submitted() == JOBS, "all are submitted", within=900)
            work.until_ended(within=600)
        eventually(lambda: not work.leftovers(), "no pod is left", instead=work.leftovers)
        events = hub.history.complete()
        measured(f"{JOBS} jobs, {happened} faults (seed {SEED}), {(time.monotonic() - begun) / 60:.1f} min")
        measured(f"{len(events)} revisions of jobs and pods checked")
        growing = list(report(memory, measured))
        violations = list(work.violations(events))
        assert not violations, work.explained(violations)
        nothing_is_held(breakable, 2, work)
        assert not growing or SECONDS < 600, growing


@contextmanager
def submitting(work: Workload) -> Iterator[None]:
    """Inside, jobs are submitted, evenly over the time."""

    def submit() -> None:
        begun = time.monotonic()
        while (number := work.submitted()) < JOBS:
            due = begun + number * SECONDS / JOBS
            time.sleep(max(0.0, due - time.monotonic()))
            if len(work.unfinished()) < AT_A_TIME:
                work.submit(1)

    users = threading.Thread(target=submit, daemon=True)
    users.start()
    yield
    users.join()


@contextmanager
def memory_of(plant: Plant) -> Iterator[dict[str, list[int]]]:
    """Bytes that the larger replica of each service holds, sampled inside."""
    samples: dict[str, list[int]] = {service: [] for service in SERVICES}
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLED_EVERY):
            for service in SERVICES:
                held = [resident(plant, name) for name in replicas(2) if name.removesuffix("-2") == service]
                if all(held):
                    samples[service].append(max(held))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def resident(plant: Plant, name: str) -> int:
    """Bytes of memory that a component's process holds; 0 if there is none."""
    pid = plant.part(name).pid
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(memory: dict[str, list[int]], measured: Measured) -> Iterator[str]:
    """Tell the figures; those that grow."""
    for service, samples in memory.items():
        third = len(samples) // 3
        if not third:
            continue
        middle, last = (median(part) / 2**20 for part in (samples[third : 2 * third], samples[2 * third :]))
        line = f"{service}: {middle:.0f} MiB in the second third, {last:.0f} in the last"
        measured(f"{line}, {max(samples) / 2**20:.0f} at most")
        if last > middle * GROWTH:
            yield line

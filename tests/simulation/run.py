"""One run of the simulation, from a seed to its violations. The same seed always gives the same run."""

import asyncio
import logging
import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256

import structlog
from tests.simulation import checker, leaks
from tests.simulation.admissions import POD_DISK
from tests.simulation.broker import Broker, BrokerConditions
from tests.simulation.bugs import BUGS
from tests.simulation.clocks import Clocks
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Adversary
from tests.simulation.faults.context import FaultContext
from tests.simulation.installation import Installation
from tests.simulation.kube import ApiConditions
from tests.simulation.loop import EPOCH, DeadlockError, SimulatedLoop
from tests.simulation.outcomes import PREPARING_TIMEOUT_SECONDS
from tests.simulation.replay import Replay
from tests.simulation.scenario import (
    COLLECT_PODS,
    DELETE_PODS,
    DRAIN,
    FINALIZERS,
    GATED_NOTEBOOKS,
    LABELS,
    LOSE_NODES,
    NAMES,
    ORPHANS,
    QUOTAS,
    RECREATE,
    REMOVE_NODES,
    RETRIES,
    SERVICE_CLOCKS,
    SIDECARS,
    SUSPENSIONS,
    draw,
)
from tests.simulation.store import Change, Store

from phjob_runtime.settings import JobSubmission

RECOVERY_SECONDS = 10.0
"""The time after the last fault from which on every admissible job has to be admitted."""
CHECK_INTERVAL_SECONDS = 5.0
"""The time between two checks for stuck jobs."""
STUCK_SECONDS = 5
"""The time for which a job has to be admissible to count as stuck."""
MAX_RECOVERY_SECONDS = 1500.0
"""The time after the last fault in which every job has to end. A backoff may take ten minutes."""


@dataclass(frozen=True)
class World:
    """The third parties and the faults that a run may have. None: the seed draws them from all."""

    third_parties: frozenset[str] | None = None
    faults: frozenset[str] | None = None


WORLDS = {
    "": World(),
    "quiet": World(frozenset(), frozenset()),
    "late-creations": World(frozenset(), frozenset({"delay_creation"})),
    "third-party-deletion": World(frozenset({DELETE_PODS, COLLECT_PODS, DRAIN, REMOVE_NODES}), frozenset()),
    "orphan-deletion": World(frozenset({ORPHANS, DELETE_PODS, NAMES, FINALIZERS, LABELS})),
    "sidecars": World(frozenset({SIDECARS, DELETE_PODS, COLLECT_PODS, DRAIN, LOSE_NODES})),
    "unauthorized": World(frozenset(), frozenset({"answer_as_starting_server"})),
    "benign": World(frozenset()),
    "retry": World(frozenset({RETRIES, DELETE_PODS, DRAIN, REMOVE_NODES, LOSE_NODES})),
    "suspension": World(frozenset({SUSPENSIONS, DELETE_PODS})),
    "notebooks": World(frozenset({GATED_NOTEBOOKS, DELETE_PODS, QUOTAS, RECREATE})),
    "delayed-gate-removals": World(faults=frozenset({"delay_gate_removal"})),
    "expired-watches": World(faults=frozenset({"expire_watches", "expire_watches_after_pod_end"})),
    "jobs-deleted-unseen": World(faults=frozenset({"delete_job_before_snapshot"})),
    "lost-messages": World(faults=frozenset({"lose_messages", "purge"})),
    "repeated-messages": World(faults=frozenset({"duplicate_messages", "delay_watches"})),
    "settled-commands": World(faults=frozenset({"settle_during_admission"})),
}
"""The worlds by name. The usual one is ""; the others have only some faults or third parties, or none."""


@dataclass
class RunResult:
    """The result of a run. Without violations, the run kept every promise."""

    seed: int
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    """All faults and events in sequence, if there are violations."""
    jobs: int = 0
    seconds: float = 0.0
    """The simulated duration."""
    history: str = ""
    """A digest of all changes in the store, and of their times."""


def simulate(seed: int, *, bug: str = "", with_logs: bool = False, world: str = "") -> RunResult:
    """Run a seed.

    Args:
        seed: the seed of all randomness.
        bug: the planted bug that the code has; empty for none.
        with_logs: include the log lines of the services in the trace.
        world: the world of the run (`WORLDS`).

    """
    with BUGS[bug]() if bug else nullcontext():
        return _simulate(seed, WORLDS[world], with_logs=with_logs)


def _simulate(seed: int, world: World, *, with_logs: bool) -> RunResult:
    random.seed(seed)  # The services draw their jitter from this global generator.
    loop = SimulatedLoop()
    asyncio.set_event_loop(loop)
    result = RunResult(seed)
    run = _Run(result, world)
    level = logging.INFO if with_logs else logging.CRITICAL
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, run.record_log],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    try:
        loop.run_until_complete(run.run())
    except DeadlockError:
        result.violations.append("every task waits, and no timer is set")
    finally:
        _close(loop)
        structlog.reset_defaults()
    return result


class _Run:
    """All parts of a run."""

    def __init__(self, result: RunResult, world: World) -> None:
        self._result = result
        self._replay = Replay()
        self._random = drawn = random.Random(result.seed)  # noqa: S311 - the same seed is the same run
        self._notes: list[tuple[int, float, str]] = []
        """The revision, time and text of each line that the trace has beside the events."""
        self.scenario = draw(drawn, world.third_parties)
        self.store = Store(self._now)
        self.api = ApiConditions(drawn, latency=drawn.choice((0.005, 0.02, 0.2, 1.0)))
        shards = drawn.choice((1, 1, 2))
        self.broker = Broker(BrokerConditions(drawn, latency=drawn.choice((0.002, 0.02, 0.2, 1.0))), shards)
        settings = JobSubmission(
            preparingTimeoutSeconds=PREPARING_TIMEOUT_SECONDS,
            ephemeralStorage=POD_DISK,
            defaultActiveDeadlineSeconds=self.scenario.deadline,
            defaultTTLSecondsAfterFinished=0,
            nodeLostGraceSeconds=self.scenario.node_grace,
            historyTTLSeconds=0,
            historyLimit=0,
            neverRanTTLSeconds=0,
        )
        clocks = Clocks()
        self.installation = Installation(
            self.store, self.api, self.broker, clocks, settings, shards=shards, replicas=drawn.choice((1, 2))
        )
        machines = [str(slot) for slot in self.installation.slots]
        self.cluster = Cluster(self.store, drawn, self.scenario, clocks, machines)
        context = FaultContext(drawn, self.installation, self.store, self.api, self.broker, self._note)
        self._adversary = Adversary(context, world.faults)

    async def run(self) -> None:
        """Run the installation with its faults until it has recovered, then check it."""
        result = self._result
        self.cluster.begin()
        for slot in self.installation.slots:
            self.installation.start(slot)
        try:
            await asyncio.gather(self._adversary.run(), self.cluster.third_parties.interfere())
            if SERVICE_CLOCKS in self.scenario.third_parties:
                await self.installation.restart()  # docs/operate.md, Clocks
            await self._recover()
            nodes = self.cluster.nodes
            result.violations += checker.violations(self.store, self.scenario, nodes.starts, nodes.ends)
            result.violations += checker.dead_letters(self.broker)
            result.violations += leaks.leaks(self.store, self.broker, self._now())
            result.violations += [
                f"the main loop of {slot} ended: {process.failure!r}"
                for slot, process in self.installation.processes.items()
                if process.failure
            ]
        finally:
            result.jobs, result.seconds = self.scenario.jobs, self._now()
            result.history = sha256(repr(self.store.changes).encode()).hexdigest()
            if result.violations:
                result.trace = self._trace()
            self.cluster.end()
            await self.installation.end()

    async def _recover(self) -> None:
        """Wait until every job has ended. Record each job that is stuck or does not end."""
        result, began = self._result, self._now()
        await asyncio.sleep(RECOVERY_SECONDS)
        while self._has_work() and self._now() < began + MAX_RECOVERY_SECONDS:
            if stuck := await self._stuck_jobs():
                seconds = self._now() - began
                result.violations += [
                    f"{name} is admissible, but still waits {seconds:.0f} s after the last fault"
                    for name, _ in stuck
                ]
                return
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
        result.violations += [f"{name} never ended" for name in checker.unfinished_jobs(self.store)]
        while self.api.delayed_creations:  # noqa: ASYNC110 - time is simulated
            await asyncio.sleep(1)
        await asyncio.sleep(30)

    def _has_work(self) -> bool:
        return bool(checker.unfinished_jobs(self.store)) or self.cluster.has_active_users

    async def _stuck_jobs(self) -> set[tuple[str, str]]:
        """Return the jobs that are admissible for `STUCK_SECONDS` without being admitted.

        One check is not enough, because a job may have become admissible only now.
        """
        stuck = self._admissible_jobs()
        for _ in range(STUCK_SECONDS):
            if stuck:
                await asyncio.sleep(1)
                stuck &= self._admissible_jobs()
        return stuck

    def _admissible_jobs(self) -> set[tuple[str, str]]:
        self._replay.catch_up(self.store.changes)
        return checker.admissible_jobs(self._replay, self._now())

    def _trace(self) -> list[str]:
        events, start = checker.events(self.store.changes), EPOCH.timestamp()
        lines = [
            (event.revision, event.observed_at.timestamp() - start, event.describe()) for event in events
        ]
        lines += [(edit.revision, edit.at, _describe(edit)) for edit in self.store.changes if _is_edit(edit)]
        merged = sorted(lines + self._notes, key=lambda line: (line[1], line[0]))
        return [str(self.scenario), *(f"{at:8.3f}  {text}" for _, at, text in merged)]

    def _note(self, text: str) -> None:
        self._notes.append((self.store.revision, self._now(), f"--- {text}"))

    def record_log(
        self, _logger: object, _level: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Add a log line of a service to the trace, and drop it from the log."""
        process, name = event.pop("process", ""), event.pop("event")
        values = " ".join(f"{key}={value}" for key, value in event.items())
        self._notes.append((self.store.revision, self._now(), f"    {process}: {name} {values}"))
        raise structlog.DropEvent

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _is_edit(change: Change) -> bool:
    """Return whether somebody has created, edited or removed a job or an object of the catalog."""
    if change.plural not in ("phjobs", "phgroups", "instancetypes", "images"):
        return False
    return change.before is None or change.gone or change.object.get("spec") != change.before.get("spec")


def _describe(change: Change) -> str:
    verb = "removed" if change.gone else "edited" if change.before else "created"
    name, spec = change.object["metadata"]["name"], change.object["spec"]
    return f"--- {change.author} {verb} {change.plural} {name}: {spec}"


def _close(loop: SimulatedLoop) -> None:
    """Cancel all tasks, wait for their end, and close the loop."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

"""One run of the simulation: a seed in, what went wrong out. The same seed is always the same run."""

import asyncio
import logging
import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256

import structlog
from tests.simulation import judge
from tests.simulation.broker import Broker, BrokerWeather
from tests.simulation.bugs import BUGS
from tests.simulation.faults import Adversary
from tests.simulation.installation import Installation
from tests.simulation.kube import ApiWeather
from tests.simulation.loop import EPOCH, NothingToDoError, SimulatedLoop
from tests.simulation.scenario import Cluster, draw
from tests.simulation.store import Store
from tests.support.history import Event

RECOVERY = 10.0
"""Seconds after the last fault's end from which on nothing may wait that could go."""
LOOK = 5.0
"""Seconds between two looks at what waits."""
IN_VAIN = 5
"""Seconds that it must be able to go, at each look, to wait in vain: another may have been before it."""
LONGEST = 1500.0
"""Seconds in which every job must have come to its end; a backoff may take ten minutes."""


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    violations: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    jobs: int = 0
    seconds: float = 0.0
    """Simulated."""
    history: str = ""
    """A digest of all that happened, and when."""


def simulate(seed: int, *, bug: str = "", told: bool = False) -> Outcome:
    """Run it, with one of the planted bugs; `told`: with what the services log in the trace."""
    with BUGS[bug]() if bug else nullcontext():
        return _simulate(seed, told=told)


def _simulate(seed: int, *, told: bool) -> Outcome:
    random.seed(seed)  # Our services' jitter.
    loop = SimulatedLoop()
    outcome = Outcome(seed)
    run = _Run(outcome)
    level = logging.INFO if told else logging.CRITICAL
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, run.told],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    try:
        loop.run_until_complete(run.run())
    except NothingToDoError:
        outcome.violations.append("everybody waits for something that will never come")
    finally:
        _close(loop)
    return outcome


class _Run:
    """A run under way."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._random = drawn = random.Random(outcome.seed)  # noqa: S311 - a seed is to be repeated
        self._notes: list[tuple[int, float, str]] = []
        self.scenario = draw(drawn)
        self.store = Store(self._now)
        self.api = ApiWeather(drawn, latency=drawn.choice((0.005, 0.02, 0.2, 1.0)))
        shards = drawn.choice((1, 1, 2))
        self.broker = Broker(BrokerWeather(drawn, latency=drawn.choice((0.002, 0.02, 0.2, 1.0))), shards)
        self.installation = Installation(self.store, self.api, self.broker, shards, drawn.choice((1, 2)))
        self.cluster = Cluster(self.store, drawn, self.scenario)

    async def run(self) -> None:
        """Let everything happen, then look at what has."""
        outcome = self._outcome
        adversary = Adversary(self._random, self.installation, self.store, self.api, self.broker, self._note)
        self.cluster.begin()
        for post in self.installation.posts:
            self.installation.start(post)
        try:
            await adversary.run()
            await self._recover()
            outcome.violations += judge.violations(self._history(), self.scenario)
            outcome.violations += judge.failures(self.broker)
            outcome.violations += judge.leaks(self.store, self.broker, self._now())
            outcome.violations += [
                f"{post} gave up: {process.failure!r}"
                for post, process in self.installation.processes.items()
                if process.failure
            ]
        finally:
            outcome.jobs, outcome.seconds = self.scenario.jobs, self._now()
            outcome.history = sha256(repr(self.store.changes).encode()).hexdigest()
            if outcome.violations:
                outcome.trace = self._trace()
            self.cluster.end()
            await self.installation.end()

    async def _recover(self) -> None:
        """All is well: everything that waits gets on, and comes to its end."""
        outcome, began = self._outcome, self._now()
        await asyncio.sleep(RECOVERY)
        while judge.unfinished(self.store) and self._now() < began + LONGEST:
            if stuck := await self._in_vain():
                at = self._now() - began
                outcome.violations += [
                    f"{name} waits, and could go, {at:.0f} s after the last fault" for name, _ in stuck
                ]
                return
            await asyncio.sleep(LOOK)
        outcome.violations += [f"{name} never came to its end" for name in judge.unfinished(self.store)]
        await asyncio.sleep(30)

    async def _in_vain(self) -> set[tuple[str, str]]:
        """What could go now and all the time, and does not."""
        could = self._could_go()
        for _ in range(IN_VAIN):
            if could:
                await asyncio.sleep(1)
                could &= self._could_go()
        return could

    def _could_go(self) -> set[tuple[str, str]]:
        return judge.could_go(self.store, self._history(), self.scenario, self._now())

    def _history(self) -> list[Event]:
        return judge.events(self.store.changes)

    def _trace(self) -> list[str]:
        lines = [(event.revision, event.seen.timestamp(), event.line()) for event in self._history()]
        start = EPOCH.timestamp()
        merged = [(revision, at - start, text) for revision, at, text in lines] + self._notes
        return [f"{at:8.3f}  {text}" for _, at, text in sorted(merged, key=lambda line: (line[1], line[0]))]

    def _note(self, text: str) -> None:
        self._notes.append((self.store.revision, self._now(), f"--- {text}"))

    def told(
        self, _logger: object, _level: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Take what a service logs into the trace."""
        process, what = event.pop("process", ""), event.pop("event")
        said = " ".join(f"{key}={value}" for key, value in event.items())
        self._notes.append((self.store.revision, self._now(), f"    {process}: {what} {said}"))
        raise structlog.DropEvent

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _close(loop: SimulatedLoop) -> None:
    """Let everybody go, and see that nobody stays."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

"""Two replicas of each service: one works, the other takes over, soon after SIGKILL, at once after SIGTERM.

How soon is printed as measured; what is asserted is three times the bar, for a busy machine.
"""

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest
from tests.support.history import Event
from tests.support.hub import SERVICES, Hub, corner
from tests.support.measures import Measured
from tests.support.metrics import active
from tests.support.scene import FOREVER, Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

BARS = {"watcher": 10.0, "scheduler": 10.0, "pod-manager": 15.0, "janitor": 10.0}
"""Seconds from the SIGKILL of the active replica to the next admission."""
AT_ONCE = 2.0
"""Seconds after a SIGTERM."""
SLACK = 3
EVERY = 0.2
"""Seconds between two jobs of the trickle."""
DEADLINE = 1
"""Seconds that every fifth of its jobs may run, and does not end by itself."""


@pytest.fixture(scope="module")
def twofold(local_stack: LocalStack) -> Iterator[Stack]:
    """The stack with two replicas of each service; one again afterwards."""
    yield local_stack.whole(replicas=2)
    local_stack.whole()


@pytest.fixture
def hub(twofold: Stack) -> Iterator[Hub]:
    """A test's corner of it, in which all replicas are up."""
    twofold.up()
    with corner(twofold) as hub:
        yield hub


class Trickle:
    """Jobs of one group, one after the other, from its start to its end."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._scene = Scene(hub, "trickle").make()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.created: dict[str, datetime] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(EVERY):
            number += 1
            if number % 5:
                name = self._scene.submit(f"job-{number}", run_for="0.5s")
            else:
                name = self._scene.submit(f"job-{number}", run_for=FOREVER, activeDeadlineSeconds=DEADLINE)
            self.created[name] = datetime.now(UTC)

    def firsts(self, phase: str, reason: str = "") -> dict[str, Event]:
        """Each job's first revision in the phase."""
        first: dict[str, Event] = {}
        for event in self._hub.history.events():
            job = event.kind == "PhJob" and event.name in self.created and event.phase == phase
            if job and reason in event.object["status"].get("reason", ""):
                first.setdefault(event.name, event)
        return first

    def admitted_after(self, moment: datetime) -> float | None:
        """Seconds from the moment to the admission of the first job that was created after it."""
        seen = [event.seen for name, event in self.firsts("Preparing").items() if self.created[name] > moment]
        return (min(seen) - moment).total_seconds() if seen else None

    def timed_out_after(self, moment: datetime) -> float | None:
        """How late the first job was timed out that began to run after the moment, in seconds."""
        running = self.firsts("Running")
        late = [
            event.seen - running[name].seen - timedelta(seconds=DEADLINE)
            for name, event in self.firsts("Failed", "OverActiveDeadline").items()
            if running[name].seen > moment
        ]
        return late[0].total_seconds() if late else None

    def longest_pause(self, moment: datetime) -> float:
        """The longest time without an admission since the moment."""
        times = sorted(event.seen for event in self.firsts("Preparing").values())
        times = [time for time in times if time > moment]
        gaps = [later - earlier for earlier, later in zip([moment, *times], times, strict=False)]
        return max(gap.total_seconds() for gap in gaps)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("service", SERVICES)
def test_the_standby_takes_over(
    hub: Hub, local_stack: LocalStack, service: str, number: signal.Signals, measured: Measured
) -> None:
    """Under a trickle of jobs; every one of them comes to its end."""
    state = local_stack.state
    for each in SERVICES:
        eventually(lambda each=each: len(active(state, each)) == 1, f"one {each} is active")  # type: ignore[misc]
    (name,) = active(state, service)
    with Trickle(hub) as trickle:
        eventually(lambda: trickle.firsts("Succeeded"), "jobs run")
        eventually(lambda: trickle.firsts("Failed", "OverActiveDeadline"), "jobs are timed out")
        moment = datetime.now(UTC)
        hub.service(name).kill(number)
        admission = eventually(lambda: trickle.admitted_after(moment), "the next job is admitted")
        late = eventually(lambda: trickle.timed_out_after(moment), "the next job is timed out")
    pause = trickle.longest_pause(moment)
    measured(
        f"next admission {admission:.1f} s after the {number.name} of the active {service}, "
        f"next timeout {late:.1f} s late; longest pause {pause:.1f} s"
    )
    assert admission < SLACK * (BARS[service] if number == signal.SIGKILL else AT_ONCE)
    for job in trickle.created:
        hub.reaches(job, "Succeeded", "Failed")
    assert len(trickle.firsts("Succeeded")) + len(trickle.firsts("Failed", "OverActiveDeadline")) == len(
        trickle.created
    )
    eventually(lambda: hub.service(name).pid is None, f"{name} has ended")
    hub.service(name).start()
    hub.service(name).wait_ready()

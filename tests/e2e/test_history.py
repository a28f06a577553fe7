"""Old records are deleted by age and by count; nothing that is not finished ever is."""

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.hub import Hub, corner
from tests.support.scene import FOREVER, Scene, settled
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.stack import Stack

TTL = "defaultTTLSecondsAfterFinished: 1"
"""So that a finished job soon is nothing but a record."""


@pytest.fixture(params=["historyLimit: 2", "historyTTLSeconds: 3"])
def limit(request: pytest.FixtureRequest) -> str:
    """The setting."""
    return str(request.param)


@pytest.fixture
def hub(kwok_stack: Stack, local_stack: LocalStack, limit: str) -> Iterator[Hub]:
    """A corner of a stack with that setting; afterwards it has the usual ones again."""
    with corner(local_stack.whole(f"jobSubmission: {{{limit}, {TTL}}}\n")) as hub:
        yield hub
    kwok_stack.up()


def there(hub: Hub, names: list[str]) -> list[str]:
    """Which of the jobs are still on record."""
    return [name for name in names if hub.history.latest("PhJob", name)]


def has_passed(moment: datetime) -> None:
    """Wait until then: ages are counted in whole seconds."""
    eventually(lambda: datetime.now(UTC) > moment, f"{moment} has passed")


def clean_up_now(hub: Hub) -> None:
    """A janitor that starts looks at the history at once, and later once a minute."""
    hub.service("janitor").kill(signal.SIGKILL)
    hub.service("janitor").start()
    hub.service("janitor").wait_ready()


def test_old_records_are_deleted_and_nothing_else(hub: Hub, limit: str) -> None:
    """contract.md, Lifecycle: History. The newest stay, and so does whatever is not finished."""
    scene = Scene(hub, "phusers", {"userQuota": {"gpu": 1}}).make()
    running = scene.submit("running", gpus=1, run_for=FOREVER)
    hub.reaches(running, "Running")
    waiting = scene.submit("waiting", gpus=1)
    old = []
    for number in range(4):
        old.append(scene.submit(f"old-{number}", ttlSecondsAfterFinished=0 if number == 1 else 1, user="lin"))
        hub.cancel(old[-1]) if number == 2 else hub.reaches(old[-1], "Succeeded")
        ended = datetime.fromisoformat(hub.reaches(old[-1], "Succeeded", "Cancelled")["finishTime"])
        has_passed(ended + timedelta(seconds=1))  # The next one is younger, to the second.
    by_count = limit.startswith("historyLimit")
    stay = old[2:] if by_count else []
    for name in old:
        if name != old[1]:  # Its pod stays for ever; its record does not.
            eventually(lambda name=name: not there(hub, [name]) or hub.status(name)["reclaimed"], "reclaimed")  # type: ignore[misc]
    has_passed(ended + timedelta(seconds=4))
    clean_up_now(hub)
    eventually(lambda: there(hub, old) == stay, f"{stay} stay", instead=lambda: there(hub, old))
    hub.pod_is_gone(old[1])
    settled(hub)
    assert there(hub, [running, waiting]) == [running, waiting]
    assert hub.job(running).phase == "Running"
    assert hub.job(waiting).phase == "Pending"

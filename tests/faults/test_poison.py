"""Messages that nobody can handle, in every service's queue, while jobs run: they block nobody.

Each goes to `phjob.dead` with its reason and is counted; the command shows it and sends it back.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.support.broker import Management
from tests.support.hub import SERVICES, Hub
from tests.support.metrics import samples
from tests.support.scene import FOREVER, Scene
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from shared import topology

QUEUES = {service: topology.queue_of(service) for service in SERVICES}
UNREADABLE: tuple[tuple[str, dict[str, str]], ...] = (
    ("{}", {"type": "Party", "app_id": "somebody", "message_id": "1 0"}),
    ("not json", {"type": "JobSeen", "app_id": "watcher", "message_id": f"{'9' * 20} 7"}),
    ("{}", {}),
    (
        '{"request": []}',
        {"type": "SnapshotEnd", "app_id": "watcher", "message_id": "zzz 99999999999999999999"},
    ),
    (
        "\u0000" * 5000,
        {"type": "Admit", "app_id": "scheduler", "message_id": "\u4e2d", "expiration": "1000000"},
    ),
)
"""Bodies and properties; some claim to be of a session that no watcher ever reaches."""


@pytest.fixture
def management(local_stack: LocalStack) -> Iterator[Management]:
    """The broker's, with nothing in phjob.dead before and afterwards."""
    management = local_stack.management()
    management.purge(topology.DEAD)
    yield management
    management.purge(topology.DEAD)


def dead(url: str, *arguments: str) -> str:
    """What the command says, as an operator runs it."""
    command = [sys.executable, "-m", "shared.dead", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "AMQP_URL": url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def buried(local_stack: LocalStack, service: str) -> float:
    """How many messages of its queue the service has buried."""
    counted = samples(local_stack.state, service, "phjob_messages_buried_total")
    return counted.get((QUEUES[service],), 0)


def test_poison_in_every_queue_stops_no_job_and_is_shown_with_its_reason(
    hub: Hub, local_stack: LocalStack, management: Management
) -> None:
    """Jobs of a group with room for one at a time run before, between and after."""
    before = {service: buried(local_stack, service) for service in SERVICES}
    pids = {service: hub.service(service).pid for service in SERVICES}
    scene = Scene(hub, "poisoned", {"groupQuota": {"gpu": 1}}).make()
    jobs = []
    for number, (body, properties) in enumerate(UNREADABLE):
        jobs.append(scene.submit(f"before-{number}", gpus=1, run_for="0.2s"))
        for queue in QUEUES.values():
            management.publish(queue, body, **properties)
        jobs.append(scene.submit(f"after-{number}", gpus=1, run_for="0.2s"))
    wanted = json.dumps({"queue": "scheduler.7", "request": "a/1"})
    management.publish("watcher", wanted, type="SnapshotWanted", app_id="scheduler", message_id="s 0")
    for service in SERVICES:
        count = len(UNREADABLE) + (service == "watcher")
        eventually(
            lambda service=service, count=count: buried(local_stack, service) - before[service] == count,  # type: ignore[misc]
            f"{service} has buried {count}",
        )
    for job in jobs:
        assert hub.reaches(job, "Succeeded")["requeued"] == 0
    assert {service: hub.service(service).pid for service in SERVICES} == pids

    said = dead(hub.stack.amqp_url, "show")
    assert said.endswith(f"{4 * len(UNREADABLE) + 1} message(s) in phjob.dead\n")
    for queue in QUEUES.values():
        party = (
            rf"[0-9a-f]{{10}}  {datetime.now(UTC):%Y-%m-%d} \S+Z  {re.escape(queue)}  Party from somebody\n"
        )
        assert re.search(
            party + r"    reason: unknown message kind 'Party'\n    body:   \{\} \(2 bytes\)\n", said
        )
    assert "reason: there is no queue 'scheduler.7' to answer to\n" in said


def test_a_message_that_dies_again_is_back_and_one_whose_time_has_come_is_obeyed(
    hub: Hub, local_stack: LocalStack, management: Management
) -> None:
    """The second is an order that an older pod-manager did not know, say: now it does what it asks for."""
    scene = Scene(hub, "replayed").make()
    job = scene.submit("job", run_for=FOREVER)
    fence = hub.reaches(job, "Running")["fence"]
    order = {
        "uid": hub.job(job).uid,
        "name": job,
        "group": scene.group,
        "fence": fence,
        "message": "replayed",
    }
    headers = {"queue": "pod-manager.0", "reason": "unknown message kind 'TimeOut'"}
    management.publish_to(
        topology.DEAD,
        json.dumps(order),
        type="TimeOut",
        app_id="janitor",
        message_id="session 3",
        headers=headers,
    )
    management.publish("janitor.0", "{}", type="Party", app_id="somebody", message_id="1 0")
    eventually(lambda: len(management.look_into(topology.DEAD)) == 2, "both are among the dead")
    before = buried(local_stack, "janitor")

    assert "2 of 2 message(s) replayed" in dead(hub.stack.amqp_url, "replay")
    status = hub.reaches(job, "Failed")
    assert (status["reason"], status["message"]) == ("OverActiveDeadline", "replayed")
    eventually(lambda: buried(local_stack, "janitor") == before + 1, "the other one has died again")
    eventually(lambda: len(management.look_into(topology.DEAD)) == 1, "and is shown again")
    assert "Party from somebody" in dead(hub.stack.amqp_url, "show", "--queue", "janitor.0")

"""Messages that no service can process, in every queue while jobs run: they hold up no other message.

The service counts each of them, and dead-letters it with the reason. The command shows and replays it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.support.broker import ManagementApi
from tests.support.cluster import SERVICES, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from phjob_runtime.amqp import topology

QUEUES = {service: topology.queue_of(service) for service in SERVICES}
UNPROCESSABLE: tuple[tuple[str, dict[str, str]], ...] = (
    ("{}", {"type": "Party", "app_id": "watcher", "message_id": "1 0"}),
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
"""Bodies and properties. Some have the number of a session that no watcher ever reaches."""


@pytest.fixture
def management(local_stack: LocalStack) -> Iterator[ManagementApi]:
    """The broker's management API. The dead-letter queue is empty before and after the test."""
    management = local_stack.management()
    management.purge(topology.DEAD_LETTER_QUEUE)
    yield management
    management.purge(topology.DEAD_LETTER_QUEUE)


def run_dead_letters(url: str, *arguments: str) -> str:
    """Run the command as an operator does. Returns its output."""
    command = [sys.executable, "-m", "phjob_runtime.amqp.dead_letters", *arguments]
    done = subprocess.run(
        command, env={**os.environ, "AMQP_URL": url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dead_lettered_count(local_stack: LocalStack, service: str) -> float:
    """Return how many messages of its queue the service has dead-lettered."""
    counted = samples(local_stack.state, service, "phjob_messages_dead_lettered_total")
    return counted.get((QUEUES[service],), 0)


def test_unprocessable_messages_stop_no_job_and_are_shown_with_their_reasons(
    cluster: Cluster, local_stack: LocalStack, management: ManagementApi
) -> None:
    """The jobs of a group with a quota for one run before, between and after the messages."""
    before = {service: dead_lettered_count(local_stack, service) for service in SERVICES}
    pids = {service: cluster.service(service).pid for service in SERVICES}
    group = GroupFixture(cluster, "unaffected", {"groupQuota": {"gpu": 1}}).create()
    jobs = []
    for number, (body, properties) in enumerate(UNPROCESSABLE):
        jobs.append(group.submit(f"before-{number}", gpus=1, run_for="0.2s"))
        for queue in QUEUES.values():
            management.publish(queue, body, **properties)
        jobs.append(group.submit(f"after-{number}", gpus=1, run_for="0.2s"))
    request = json.dumps({"queue": "scheduler.7", "request": "a/1"})
    management.publish("watcher", request, type="SnapshotRequest", app_id="pod-manager", message_id="s 0")
    for service in SERVICES:
        count = len(UNPROCESSABLE) + (service == "watcher")
        eventually(
            lambda service=service, count=count: (
                dead_lettered_count(local_stack, service) - before[service] == count
            ),  # type: ignore[misc]
            f"{service} has dead-lettered {count} messages",
        )
    for job in jobs:
        assert cluster.wait_for_phase(job, "Succeeded")["requeued"] == 0
    assert {service: cluster.service(service).pid for service in SERVICES} == pids

    output = run_dead_letters(cluster.stack.amqp_url, "show")
    assert output.endswith(f"{4 * len(UNPROCESSABLE) + 1} message(s) in phjob.dead\n")
    for queue in QUEUES.values():
        unknown_kind = (
            rf"[0-9a-f]{{10}}  {datetime.now(UTC):%Y-%m-%d} \S+Z  {re.escape(queue)}  Party from watcher\n"
        )
        assert re.search(
            unknown_kind + r"    reason: unknown message kind 'Party'\n    body:   \{\} \(2 bytes\)\n", output
        )
    assert "reason: there is no queue 'scheduler.7' to answer to\n" in output
    assert output.count("reason: its publisher None is not a service\n") == len(QUEUES)


def test_a_replayed_command_is_executed_and_an_unprocessable_message_is_dead_lettered_again(
    cluster: Cluster, local_stack: LocalStack, management: ManagementApi
) -> None:
    """An older pod-manager may have dead-lettered a command because it did not know its kind."""
    group = GroupFixture(cluster, "replayed").create()
    job = group.submit("job", run_for=FOREVER)
    token = cluster.wait_for_phase(job, "Running")["fence"]
    command = {
        "uid": cluster.job(job).uid,
        "name": job,
        "group": group.name,
        "fence": token,
        "message": "replayed",
    }
    reason = "unknown message kind 'TimeOut'"
    headers = {"queue": "pod-manager.0", "reason": reason, "user": management.user}
    management.publish_to(
        topology.DEAD_LETTER_QUEUE,
        json.dumps(command),
        type="TimeOut",
        app_id="janitor",
        message_id="session 3",
        headers=headers,
    )
    management.publish("janitor.0", "{}", type="Party", app_id="watcher", message_id="1 0")
    eventually(
        lambda: len(management.peek(topology.DEAD_LETTER_QUEUE)) == 2, "both messages are dead letters"
    )
    before = dead_lettered_count(local_stack, "janitor")

    assert "2 of 2 message(s) replayed" in run_dead_letters(cluster.stack.amqp_url, "replay")
    status = cluster.wait_for_phase(job, "Failed")
    assert (status["reason"], status["message"]) == ("OverActiveDeadline", "replayed")
    eventually(
        lambda: dead_lettered_count(local_stack, "janitor") == before + 1,
        "janitor has dead-lettered its message again",
    )
    eventually(lambda: len(management.peek(topology.DEAD_LETTER_QUEUE)) == 1, "one dead letter is left")
    assert "Party from watcher" in run_dead_letters(cluster.stack.amqp_url, "show", "--queue", "janitor.0")

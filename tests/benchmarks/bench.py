"""A stack of the benchmarks' own: its catalog, its jobs, and one measured run of them.

What is run and what comes out of it is said in `scenarios`; how it is counted, in `figures` and `usage`.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.benchmarks.client import Answer, Client, Request
from tests.benchmarks.figures import first_seen
from tests.benchmarks.usage import Usage, used
from tests.support.api import PLURALS, Api, ApiError
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.history import Event
from tests.support.hub import NAMESPACE, SERVICES
from tests.support.metrics import samples, samples_of

from dev.component import Record
from dev.site import Site
from dev.stack import PARTS, Part, Stack

IMAGE, TYPE = "bench-notebook", "bench-half-core"
MILLICORES = 500
"""What each job asks for."""
USERS = 5
"""Of each group, in turns."""
NODE = {"cpu": "1000000", "memory": "4Pi", "pods": "1000000"}
"""What the one node has: room for all."""
WITHIN = 900.0
"""Seconds that a run may take; far more than needed."""


@dataclass(frozen=True)
class Writes:
    """What the API server was asked to write, by its own count."""

    done: Counter[str]
    """By resource."""
    refused: int
    """Answered with no success."""

    def __sub__(self, earlier: "Writes") -> "Writes":
        return Writes(self.done - earlier.done, self.refused - earlier.refused)


@dataclass(frozen=True)
class Traffic:
    """What went through RabbitMQ; heartbeats are part of it."""

    messages: float
    """That services were told, each by itself."""
    deliveries: float
    """In which they came: the watcher's messages travel together."""
    kib: float
    """That RabbitMQ has received."""

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.messages - earlier.messages, self.deliveries - earlier.deliveries, self.kib - earlier.kib
        )


@dataclass(frozen=True)
class Run:
    """All that is known of some jobs from their submission on."""

    answers: Mapping[str, Answer]
    """To each job's submission."""
    events: Sequence[Event]
    usage: Usage
    writes: Writes
    traffic: Traffic

    @property
    def seconds(self) -> float:
        """From the first submission to what was last waited for."""
        first = min(answer.sent for answer in self.answers.values())
        return max(event.seen for event in self.events).timestamp() - first / 1e9

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return len(self.answers) / self.seconds

    def seen(self, kind: str, phase: str = "") -> dict[str, int]:
        """When each job or pod was first seen in the phase."""
        return first_seen(self.events, kind, phase)


class Bench:
    """The stack of one STATE, and load for it."""

    def __init__(self, state: Path, parts: Sequence[Part] = PARTS) -> None:
        """Touches nothing yet."""
        self.state, self._parts = state, parts
        self.stack = self._stack()

    def up(self, *, replicas: int = 1, env: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Bring it up, or change its services: their number, and more of their environment."""
        self.stack = self._stack(replicas, env)
        self.stack.up()
        self.api = Api(self.stack.kubeconfig, NAMESPACE)
        self.client = Client.of(self.stack.kubeconfig)
        limits = {"limits.cpu": cores(1), "limits.memory": "64M"}
        for manifest in (an_image(IMAGE), an_instance_type(TYPE, limits)):
            with suppress(ApiError):  # It is there.
                self.api.create(manifest)

    def _stack(self, replicas: int = 1, env: Mapping[str, Mapping[str, str]] | None = None) -> Stack:
        return Stack(self.state, node="kwok", parts=self._parts, capacity=NODE, replicas=replicas, env=env)

    def pids(self, *services: str) -> dict[str, int]:
        """The processes of the stack, or of these services, by name."""
        records = ((record.name, record.process()) for record in Record.all(self.state))
        return {
            name: process.pid
            for name, process in records
            if process and (not services or name in services or name.rpartition("-")[0] in services)
        }

    def batch(self, what: str, groups: int, jobs: int, **quota: Any) -> list[Request]:
        """Submissions of so many jobs for each of so many new groups, which take turns.

        The names of groups and jobs begin with `what`, and are like no others.
        """
        what = f"{what}-{secrets.token_hex(3)}"
        names = [f"{what}-{number}" for number in range(groups)]
        for name in names:
            self.api.create(a_group(name, images=[IMAGE], instanceTypes=[TYPE], **quota))
        return [
            submission(job_of(group, number, run_for="1s"), NAMESPACE)
            for number in range(jobs)
            for group in names
        ]

    def run(self, requests: Sequence[Request], phase: str, *, rate: float = 0) -> Run:
        """Submit the jobs, so many a second or all at once, until all are in the phase and have pods."""
        writes, traffic, count = self.writes(), self.traffic(), len(requests)
        prefix = group_of(requests[0]).rpartition("-")[0]
        with self.client.watching(prefix, phase, jobs=count, pods=count) as watching:
            with used(self.pids()) as usage:
                answers = self.client.send(requests, rate=rate)
                watching.wait(WITHIN)
            events = watching.events()
            return Run(answers, events, usage, self.writes() - writes, self.traffic() - traffic)

    def writes(self) -> Writes:
        """What was written of jobs and their pods up to now."""
        lines = self.stack.kubectl("get", "--raw", "/metrics").splitlines()
        told = "\n".join(line for line in lines if line.startswith("apiserver_request_total{"))
        done, refused = Counter[str](), 0
        for family in text_string_to_metric_families(f"# TYPE apiserver_request counter\n{told}\n"):
            for sample in family.samples:
                of = tuple(sample.labels[name] for name in ("verb", "resource", "subresource"))
                if of not in (("PATCH", "phjobs", "status"), ("POST", "pods", "")):
                    continue
                if sample.labels["code"].startswith("2"):
                    done[sample.labels["resource"]] += int(sample.value)
                else:
                    refused += int(sample.value)
        return Writes(done, refused)

    def traffic(self) -> Traffic:
        """What has gone through RabbitMQ up to now."""
        received = (
            samples(self.state, name, "phjob_messages_received_total") for name in self.pids(*SERVICES)
        )
        broker = f"{Site(self.state).url('rabbitmq-prometheus', 'http')}/metrics"
        return Traffic(
            messages=sum(count for told in received for count in told.values()),
            deliveries=sum(samples_of(broker, "rabbitmq_global_messages_delivered_total").values()),
            kib=sum(samples_of(broker, "erlang_vm_statistics_bytes_received_total").values()) / 1024,
        )

    def log(self, service: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """What the service has logged from this byte on."""
        for line in self.stack.component(service).log.read_bytes()[since:].splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)

    def log_size(self, service: str) -> int:
        """Where its log ends now."""
        return self.stack.component(service).log.stat().st_size


def cores(jobs: int) -> str:
    """What so many jobs ask for."""
    return f"{jobs * MILLICORES}m"


def job_of(group: str, number: int, **fields: Any) -> dict[str, Any]:
    """The manifest of a group's job of this number."""
    return a_job(
        f"{group}-{number:05}",
        group=group, user=f"user-{number % USERS}", image=IMAGE, instanceType=TYPE, **fields,
    )  # fmt: skip


def submission(job: dict[str, Any], namespace: str) -> Request:
    """The job's creation; known by its name."""
    return Request(job["metadata"]["name"], path(job["kind"], namespace), job)


def path(kind: str, namespace: str) -> str:
    """Where objects of the kind are."""
    return "/" + PLURALS[kind].format(f"namespaces/{namespace}")


def group_of(request: Request) -> str:
    """Of a job's submission."""
    return str(request.body["spec"]["groupName"])


def per_second(answers: Iterable[Answer]) -> float:
    """How many requests were answered in a second."""
    given = list(answers)
    return len(given) * 1e9 / (max(a.answered for a in given) - min(a.sent for a in given))

"""A stack for the benchmarks: its catalog, its jobs, and one measured run of them.

`scenarios`, `raw_api` and `history` say what is run and measured. `figures` and `cpu_usage` calculate.
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
from tests.benchmarks.client import LoadClient, Request, Response
from tests.benchmarks.cpu_usage import CpuUsage, measured_cpu
from tests.benchmarks.figures import first_observed
from tests.support.api import COLLECTION_PATHS, Api, ApiError
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.cluster import NAMESPACE, SERVICES
from tests.support.history import WatchEvent
from tests.support.metrics import samples, samples_at

from dev.component import ProcessRecord
from dev.paths import StackPaths
from dev.stack import PARTS, Part, Stack

IMAGE, TYPE = "bench-notebook", "bench-half-core"
MILLICORES_PER_JOB = 500
USERS_PER_GROUP = 5
NODE = {"cpu": "1000000", "memory": "4Pi", "pods": "1000000"}
"""The capacity of the only node, which has room for all jobs."""
SETTINGS = "jobSubmission: {historyTTLSeconds: 0, historyLimit: 0, neverRanTTLSeconds: 0}\n"
"""Without these, the history would delete jobs while they are measured."""
RUN_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Writes:
    """Writes of jobs and pods, as counted by the API server."""

    accepted: Counter[str]
    """By resource."""
    rejected: int

    def __sub__(self, earlier: "Writes") -> "Writes":
        return Writes(self.accepted - earlier.accepted, self.rejected - earlier.rejected)


@dataclass(frozen=True)
class Traffic:
    """The traffic of RabbitMQ, heartbeats included."""

    messages: float
    """Messages that the services have received, counted one by one."""
    deliveries: float
    """Deliveries, of which each is one message or one batch."""
    kib: float
    """KiB that RabbitMQ has received."""

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.messages - earlier.messages, self.deliveries - earlier.deliveries, self.kib - earlier.kib
        )


@dataclass(frozen=True)
class Run:
    """The records of a run of jobs, from their submission on."""

    responses: Mapping[str, Response]
    """The response to each job's submission, by the job's name."""
    events: Sequence[WatchEvent]
    cpu: CpuUsage
    writes: Writes
    traffic: Traffic

    @property
    def seconds(self) -> float:
        """The time from the first submission to the last event."""
        first = min(response.sent for response in self.responses.values())
        return max(event.observed_at for event in self.events).timestamp() - first / 1e9

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return len(self.responses) / self.seconds

    def first_observed(self, kind: str, phase: str = "") -> dict[str, int]:
        """Return when each job or pod was first observed in the phase, by name."""
        return first_observed(self.events, kind, phase)


class Bench:
    """The stack of one STATE, and the load for it."""

    def __init__(self, state: Path, parts: Sequence[Part] = PARTS) -> None:
        self.state, self._parts = state, parts
        self.stack = self._stack()

    def up(self, *, replicas: int = 1, env: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Start the stack, or change the number of its services and their environment variables."""
        self.stack = self._stack(replicas, env)
        self.stack.up()
        self.api = Api(self.stack.kubeconfig, NAMESPACE)
        self.client = LoadClient.of(self.stack.kubeconfig)
        limits = {"limits.cpu": cpu_quantity(1), "limits.memory": "64M"}
        for manifest in (an_image(IMAGE), an_instance_type(TYPE, limits)):
            with suppress(ApiError):  # The object may exist.
                self.api.create(manifest)

    def _stack(self, replicas: int = 1, env: Mapping[str, Mapping[str, str]] | None = None) -> Stack:
        settings = self.state.with_name("settings.yaml")
        settings.write_text(SETTINGS)
        return Stack(
            self.state,
            node="kwok",
            parts=self._parts,
            settings=settings,
            capacity=NODE,
            replicas=replicas,
            env=env,
        )

    def pids(self, *services: str) -> dict[str, int]:
        """Return the processes of the stack, or of these services only, by name."""
        records = ((record.name, record.process()) for record in ProcessRecord.all(self.state))
        return {
            name: process.pid
            for name, process in records
            if process and (not services or name in services or name.rpartition("-")[0] in services)
        }

    def new_batch(self, prefix: str, groups: int, jobs: int, **quota: Any) -> list[Request]:
        """Create groups. Returns the submissions of so many jobs for each, with the groups in turn.

        The names of groups and jobs begin with the prefix and a random part, so no other objects have them.
        """
        prefix = f"{prefix}-{secrets.token_hex(3)}"
        names = [f"{prefix}-{number}" for number in range(groups)]
        for name in names:
            self.api.create(a_group(name, images=[IMAGE], instanceTypes=[TYPE], **quota))
        return [
            submission(job_of(group, number, run_for="1s"), NAMESPACE)
            for number in range(jobs)
            for group in names
        ]

    def run(self, requests: Sequence[Request], phase: str, *, rate: float = 0) -> Run:
        """Submit jobs, at a rate or all at once, and wait until all are in the phase and have pods."""
        writes, traffic, count = self.writes(), self.traffic(), len(requests)
        prefix = group_of(requests[0]).rpartition("-")[0]
        with self.client.watching(prefix, phase, jobs=count, pods=count) as recording:
            with measured_cpu(self.pids()) as cpu:
                responses = self.client.send(requests, rate=rate)
                recording.wait(RUN_TIMEOUT_SECONDS)
            events = recording.events()
            return Run(responses, events, cpu, self.writes() - writes, self.traffic() - traffic)

    def writes(self) -> Writes:
        """Return the number of writes of jobs and their pods until now."""
        lines = self.stack.kubectl("get", "--raw", "/metrics").splitlines()
        requests = "\n".join(line for line in lines if line.startswith("apiserver_request_total{"))
        accepted, rejected = Counter[str](), 0
        for family in text_string_to_metric_families(f"# TYPE apiserver_request counter\n{requests}\n"):
            for sample in family.samples:
                write = tuple(sample.labels[name] for name in ("verb", "resource", "subresource"))
                if write not in (("PATCH", "phjobs", "status"), ("POST", "pods", ""), ("PATCH", "pods", "")):
                    continue
                if sample.labels["code"].startswith("2"):
                    accepted[sample.labels["resource"]] += int(sample.value)
                else:
                    rejected += int(sample.value)
        return Writes(accepted, rejected)

    def traffic(self) -> Traffic:
        """Return the traffic of RabbitMQ until now."""
        received = (
            samples(self.state, name, "phjob_messages_received_total") for name in self.pids(*SERVICES)
        )
        broker = f"{StackPaths(self.state).url('rabbitmq-prometheus', 'http')}/metrics"
        return Traffic(
            messages=sum(count for by_labels in received for count in by_labels.values()),
            deliveries=sum(samples_at(broker, "rabbitmq_global_messages_delivered_total").values()),
            kib=sum(samples_at(broker, "erlang_vm_statistics_bytes_received_total").values()) / 1024,
        )

    def log(self, service: str, since: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the entries of a service's log after so many bytes."""
        for line in self.stack.component(service).log.read_bytes()[since:].splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)

    def log_size(self, service: str) -> int:
        """Return the size of a service's log in bytes."""
        return self.stack.component(service).log.stat().st_size


def cpu_quantity(jobs: int) -> str:
    """Return the CPU of so many jobs, as a quantity of Kubernetes."""
    return f"{jobs * MILLICORES_PER_JOB}m"


def job_of(group: str, number: int, **fields: Any) -> dict[str, Any]:
    """Return the manifest of a group's job."""
    return a_job(
        f"{group}-{number:05}",
        group=group, user=f"user-{number % USERS_PER_GROUP}", image=IMAGE, instanceType=TYPE, **fields,
    )  # fmt: skip


def submission(job: dict[str, Any], namespace: str) -> Request:
    """Return the request that creates a job. Its key is the job's name."""
    return Request(job["metadata"]["name"], collection_path(job["kind"], namespace), job)


def collection_path(kind: str, namespace: str) -> str:
    """Return the URL path of the objects of a kind."""
    return "/" + COLLECTION_PATHS[kind].format(f"namespaces/{namespace}")


def group_of(request: Request) -> str:
    """Return the group of a job's submission."""
    return str(request.body["spec"]["groupName"])


def requests_per_second(responses: Iterable[Response]) -> float:
    """Return the rate at which requests were answered."""
    given = list(responses)
    return len(given) * 1e9 / (max(r.answered for r in given) - min(r.sent for r in given))

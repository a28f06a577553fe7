"""What is measured on a stack: each scenario submits its load and says what came out.

Which stack each gets, and in which order they run, is `run`'s; the queue alone is measured in `core`.
"""

import json
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from math import ceil
from statistics import fmean, harmonic_mean
from typing import Any
from uuid import uuid4

from tests.benchmarks.bench import (
    IMAGE,
    TYPE,
    WITHIN,
    Bench,
    Run,
    cores,
    group_of,
    job_of,
    path,
    per_second,
    submission,
)
from tests.benchmarks.client import Answer, Client, Request
from tests.benchmarks.figures import (
    Figure,
    Result,
    decisions,
    first_seen,
    hops,
    inversions,
    nanoseconds,
    percentile,
    percentiles,
    raw_limit,
)
from tests.benchmarks.load import Batch, Contended, History, Raw, ScaleOut, Steady
from tests.benchmarks.report import by_name
from tests.benchmarks.usage import Usage, most_memory, used
from tests.support.api import Api
from tests.support.builders import a_notebook, an_image, an_instance_type
from tests.support.history import STORED
from tests.support.hub import NAMESPACE, SERVICES
from tests.support.waiting import eventually

from dev.site import Site
from pod_manager import status
from pod_manager.pod_builder import Ingredients, build
from shared.messages import Admit
from shared.resources import parse
from shared.settings import JobSubmission

PER_JOB = "ms of CPU a job"
HOPS = ("submit", "decide", "admit", "tell")
"""From the request to its answer, to the scheduler's order, to the answer to its write, to the watch."""
JSON_PATCH, MERGE_PATCH, PUT = "json-patch", "merge-patch", "put"
"""Ways to write a status."""
OF_A_TRANSACTION = 100
"""Records that are written to etcd at once; it takes 128."""
AT_ONCE = 10_000
"""Records that are made before they are written."""
RUN_SECONDS = 1.0
"""How long a pod runs."""
WITHOUT = "without"
"""The stack that has no records of the past."""
SETTLE_SECONDS = 3.0
"""For reports and explanations of what was submitted before a measurement."""


def raw(bench: Bench, load: Raw) -> Result:
    """The API server alone: the three writes of an admission, with the bodies that PhJob sends.

    In a namespace that no service looks at, on the stack of the scenario that comes next.
    """
    namespace = _namespace(bench)
    figures = []
    with used(bench.pids()) as usage:
        at_once = _three_writes(bench.client, namespace, "many", load.objects, load.connections)
        create, patch, pod = (per_second(answers) for answers in at_once)
    one_by_one = _three_writes(bench.client, namespace, "single", load.one_by_one, 1)
    took = [percentile([a.milliseconds for a in answers], 50) for answers in one_by_one]
    for name, rate, one in zip(
        ("create", "status-patch", "pod-create"), (create, patch, pod), took, strict=True
    ):
        figures += [Figure(f"raw.{name}", rate, "/s"), Figure(f"raw.{name}.p50", one, "ms alone")]
    figures.append(Figure("raw.create-and-patch", took[0] + took[1], "ms alone"))
    figures.append(Figure("raw.limit", raw_limit(create, patch, pod), "/s"))
    for way in (JSON_PATCH, MERGE_PATCH, PUT):
        figures += _status_writes(bench, namespace, load, way)
    return Result("raw", figures, usage)


def _namespace(bench: Bench) -> str:
    """A new one, in which pods can be created."""
    namespace = f"raw-{uuid4().hex[:6]}"
    api = Api(bench.stack.kubeconfig, namespace)
    api.create_namespace()
    account = ("get", "serviceaccount", "default", f"--namespace={namespace}", "--ignore-not-found")
    eventually(lambda: bench.stack.kubectl(*account), "pods can be created")
    return namespace


def _three_writes(
    client: Client, namespace: str, group: str, count: int, connections: int
) -> list[list[Answer]]:
    """The answers to each of them."""
    jobs = [job_of(group, number, run_for=f"{RUN_SECONDS:g}s") for number in range(count)]
    ingredients = Ingredients(an_image(IMAGE), an_instance_type(TYPE))
    created = client.send((submission(job, namespace) for job in jobs), connections=connections)
    patches, pods = [], []
    for job in jobs:
        name = job["metadata"]["name"]
        job["metadata"]["uid"] = created[name].uid
        patches.append(_status_write(JSON_PATCH, job, created[name], namespace))
        job["status"] = {"fence": _order(job).token, "resources": {"cpu": cores(1), "memory": "64Mi"}}
        pods.append(Request(name, path("Pod", namespace), build(job, ingredients, JobSubmission())))
    patched = client.send(patches, connections=connections)
    return [
        list(answers.values()) for answers in (created, patched, client.send(pods, connections=connections))
    ]


def _status_writes(bench: Bench, namespace: str, load: Raw, way: str) -> list[Figure]:
    """What the status write of an admission costs the API server if it is asked for in this way."""
    jobs = [job_of(way, number, run_for=f"{RUN_SECONDS:g}s") for number in range(load.objects)]
    created = bench.client.send((submission(job, namespace) for job in jobs), connections=load.connections)
    writes = [_status_write(way, job, created[job["metadata"]["name"]], namespace) for job in jobs]
    with used(bench.pids("kube-apiserver", "etcd")) as usage:
        answers = bench.client.send(writes, connections=load.connections)
    spent = 1000 * usage.of("kube-apiserver", "etcd") / len(writes)
    return [
        Figure(f"raw.by-{way}", per_second(answers.values()), "/s"),
        Figure(f"raw.by-{way}.cpu", spent, "ms of CPU a write"),
    ]


def _status_write(way: str, job: dict[str, Any], created: Answer, namespace: str) -> Request:
    """That the job is Preparing, on the condition that nobody has changed it.

    JSON Patch, which PhJob uses, tests what was decided on; the other two name the object's version.
    """
    name, where = job["metadata"]["name"], f"{path('PhJob', namespace)}/{job['metadata']['name']}/status"
    metadata = {**job["metadata"], "uid": created.uid, "resourceVersion": created.version}
    patch = status.admit(_order({**job, "metadata": metadata}), datetime.now(UTC))
    if way == JSON_PATCH:
        return Request(name, where, patch, "PATCH", "application/json-patch+json")
    fields = {op["path"].removeprefix("/status/"): op["value"] for op in patch if op["op"] != "test"}
    if way == MERGE_PATCH:
        body = {"metadata": {"resourceVersion": created.version}, "status": fields}
        return Request(name, where, body, "PATCH", "application/merge-patch+json")
    fields = {"phase": "Preparing", "requeued": 0, **fields}
    return Request(name, where, {**job, "metadata": metadata, "status": fields}, "PUT")


def _order(job: dict[str, Any]) -> Admit:
    """As the scheduler would order the job's admission."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    resources = {"cpu": parse("cpu", cores(1)), "memory": parse("memory", "64Mi")}
    group = job["spec"]["groupName"]
    return Admit(
        uid=uid, name=name, group=group, fence="", token=f"raw#{name}", resources=resources, revision=1
    )


def burst(bench: Bench, load: Batch, alone: Raw, limit: float) -> Result:
    """All are submitted at once and fit: until all are Preparing and have pods, which nobody runs.

    `limit`: what the API server `alone` could do just before, in jobs a second. It is measured again just
    after, for a machine may get slower or faster meanwhile.
    """
    run = bench.run(bench.batch("burst", load.groups, load.jobs), "Preparing")
    writes = _three_writes(bench.client, _namespace(bench), "after", alone.objects, alone.connections)
    after = raw_limit(*(per_second(answers) for answers in writes))
    rates = [
        Figure("burst.rate", run.rate, "jobs/s"),
        Figure("burst.of-raw", 2 * run.rate / (limit + after), "of raw.limit"),
        Figure("burst.limit-after", after, "/s"),
    ]
    return Result("burst", [*rates, *_of_any("burst", run)], run.usage)


def lives(bench: Bench, load: Batch, name: str = "lives") -> Result:
    """The same, until the last has succeeded; pods run for a second."""
    run = bench.run(bench.batch(name, load.groups, load.jobs), "Succeeded")
    jobs, writes, cpu = len(run.answers), run.writes, run.usage
    written = writes.done.total()
    figures = [
        Figure(f"{name}.rate", run.rate, "jobs/s"),
        *_of_any(name, run),
        Figure(f"{name}.cpu-share", 100 * cpu.of(*SERVICES, "rabbitmq") / cpu.ours, "%"),
        Figure(f"{name}.writes", written / jobs, "a job"),
        Figure(f"{name}.writes.pod", writes.done["pods"] / jobs, "a job"),
        Figure(f"{name}.writes.status", writes.done["phjobs"] / jobs, "a job"),
        Figure(f"{name}.retries", 100 * writes.refused / (written + writes.refused), "%"),
        Figure(f"{name}.messages", run.traffic.messages / jobs, "a job"),
        Figure(f"{name}.deliveries", run.traffic.deliveries / jobs, "a job"),
        Figure(f"{name}.broker", run.traffic.kib / jobs, "KiB into RabbitMQ a job"),
    ]
    return Result(name, figures, cpu)


def _of_any(name: str, run: Run) -> list[Figure]:
    jobs = len(run.answers)
    return [
        Figure(f"{name}.inversions", inversions(run.events), "jobs"),
        Figure(f"{name}.cpu.services", 1000 * run.usage.of(*SERVICES) / jobs, PER_JOB),
        Figure(f"{name}.cpu.rabbitmq", 1000 * run.usage.of("rabbitmq") / jobs, PER_JOB),
    ]


def latency(bench: Bench, load: Steady, name: str = "latency") -> Result:
    """Jobs come evenly, with room for all: from the request to Preparing, and where that time goes."""
    requests = bench.batch(name, 1, ceil(load.rate * load.seconds))
    logs = {service: bench.log_size(service) for service in ("scheduler", "pod-manager")}
    run = bench.run(requests, "Succeeded", rate=load.rate)
    sent = {job: answer.sent for job, answer in run.answers.items()}
    preparing = run.seen("PhJob", "Preparing")
    steps = [
        sent,
        {job: answer.answered for job, answer in run.answers.items()},
        _logged(bench, "scheduler", "ordered", logs["scheduler"]),
        _logged(bench, "pod-manager", "admitted", logs["pod-manager"]),
        preparing,
    ]
    (whole,) = hops([sent, preparing])
    figures = [*percentiles(name, whole), Figure(f"{name}.inversions", inversions(run.events), "jobs")]
    for hop, took in zip(HOPS, hops(steps), strict=True):
        figures += percentiles(f"{name}.{hop}", took)
    (to_pod,) = hops([sent, run.seen("Pod")])
    return Result(name, [*figures, *percentiles(f"{name}.pod", to_pod)], run.usage)


def _logged(bench: Bench, service: str, event: str, since: int) -> dict[str, int]:
    """When the service has logged the event about each job."""
    told = (line for line in bench.log(service, since) if line["event"] == event)
    return {line["job"]: nanoseconds(datetime.fromisoformat(line["timestamp"])) for line in told}


@dataclass(frozen=True)
class Round:
    """Some admissions of a group that is full."""

    decisions: list[float]
    """Milliseconds that each took."""
    usage: Usage
    """From the moment when all room was taken, so that each admission is one for one pod that has ended."""
    inversions: int


def contended(bench: Bench, load: Contended) -> Result:
    """One group with little room and many that wait: how long a decision takes, and what it costs."""
    figures, usage, cost = list[Figure](), Usage(), dict[int, float]()
    for pending, rounds in _rounds(bench, load).items():
        usage = rounds[-1].usage
        admissions = sum(len(one.decisions) for one in rounds)
        cost[pending] = 1000 * sum(one.usage.of(*SERVICES) for one in rounds) / admissions
        figures += [
            *percentiles(f"contended.{pending}", [ms for one in rounds for ms in one.decisions]),
            Figure(f"contended.{pending}.cpu.services", cost[pending], "ms of CPU an admission"),
            Figure(f"contended.{pending}.inversions", sum(one.inversions for one in rounds), "jobs"),
        ]
    most, fewest = max(load.pending), min(load.pending)
    told = {figure.name: figure.value for figure in figures}
    summary = [
        Figure("contended.p50", told[f"contended.{most}.p50"], "ms"),
        Figure("contended.cpu-ratio", cost[most] / cost[fewest], f"x of {fewest} pending"),
        Figure("contended.inversions", sum(told[f"contended.{n}.inversions"] for n in load.pending), "jobs"),
    ]
    return Result("contended", [*summary, *figures], usage)


def _rounds(bench: Bench, load: Contended) -> dict[int, list[Round]]:
    """Of each number that waits, spread over the same time: a machine that gets slower does it to all."""
    admissions = {pending: min(load.admissions, pending * 4 // 5) for pending in load.pending}
    turns = {pending: ceil(load.admissions / admissions[pending]) for pending in load.pending}
    order = sorted(
        ((turn + 0.5) / turns[pending], pending) for pending in turns for turn in range(turns[pending])
    )
    rounds: dict[int, list[Round]] = {pending: [] for pending in load.pending}
    for _, pending in order:
        rounds[pending].append(_round(bench, load.room, pending, admissions[pending]))
    return rounds


def _round(bench: Bench, room: int, pending: int, admissions: int) -> Round:
    """Notebooks hold all room until all jobs wait; then they go within a second, as the jobs' pods will."""
    requests = bench.batch("contended", 1, pending, groupQuota={"cpu": cores(room)})
    group = group_of(requests[0])
    notebooks = [f"{group}-notebook-{number}" for number in range(room)]
    for name in notebooks:
        bench.api.create(a_notebook(name, group=group, user="user-0", cpu=cores(1)))
    taken = parse("cpu", cores(room))
    _until_group_says(
        bench,
        group,
        lambda told: parse("cpu", told.get("used", {}).get("cpu", "0")) == taken,
        "the notebooks are counted",
    )
    with (
        bench.client.watching(f"{group}-0", "Preparing", jobs=room) as first,
        bench.client.watching(f"{group}-0", "Preparing", jobs=admissions) as watching,
    ):
        bench.client.send(requests)
        _until_group_says(bench, group, lambda told: told["pending"] == pending, "all wait")
        time.sleep(SETTLE_SECONDS)
        for name in notebooks:
            bench.api.delete("Pod", name, gracePeriodSeconds="0")
            time.sleep(RUN_SECONDS / room)
        first.wait(WITHIN)
        with used(bench.pids()) as usage:
            watching.wait(WITHIN)
        events = watching.events()
    ends = first_seen(events, "Pod", "Succeeded").values()
    admitted = first_seen(events, "PhJob", "Preparing").values()
    return Round(decisions(ends, admitted, room), usage, inversions(events, all_waited=True))


def _until_group_says(bench: Bench, group: str, what: Callable[[dict[str, Any]], bool], hoped: str) -> None:
    def said() -> bool:
        told = bench.api.get("PhGroup", group)
        return bool(told and what(told.get("status", {})))

    eventually(said, hoped, within=WITHIN)


def history(without: Bench, bench: Bench, load: History) -> Result:
    """Among many records of the past: the cost in speed, start, memory and at rest.

    The speed is held against a stack `without` any. They take turns, and in who is first, too: a machine that
    gets slower or faster meanwhile does it to both.
    """
    _fill(bench, load.records)
    _restarted(without)
    ready = _restarted(bench)
    with used(bench.pids(*SERVICES)) as idle:
        time.sleep(load.idle_seconds)
    pids = {**bench.pids(), **{f"{name}-{WITHOUT}": pid for name, pid in without.pids().items()}}
    speeds = {"with": Speed(), WITHOUT: Speed()}
    with used(pids) as usage:
        for turn in range(load.rounds):
            sides = [("with", bench), (WITHOUT, without)]
            for name, of in sides if turn % 2 else reversed(sides):
                speeds[name].measure(of, load)
    memory = {name: most_memory(pid) for name, pid in bench.pids(*SERVICES).items()}
    figures = [
        Figure("history.ready", ready, "s"),
        Figure("history.idle", 100 * idle.of(*SERVICES) / idle.seconds, "% of a core"),
        Figure("history.lives-ratio", speeds["with"].lives / speeds[WITHOUT].lives, "x of none"),
        Figure("history.latency-ratio", speeds["with"].latency / speeds[WITHOUT].latency, "x of none"),
        Figure("history.inversions", sum(speed.inversions for speed in speeds.values()), "jobs"),
        Figure("history.memory", max(memory.values()), "MiB"),
        *(Figure(f"history.memory.{name}", mib, "MiB") for name, mib in memory.items()),
        *(Figure(f"history.{name}.lives", speed.lives, "jobs/s") for name, speed in speeds.items()),
        *(Figure(f"history.{name}.latency", speed.latency, "ms") for name, speed in speeds.items()),
    ]
    return Result("history", figures, usage)


class Speed:
    """Of one of two stacks that are measured in turns."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._milliseconds: list[float] = []
        self.inversions = 0.0

    def measure(self, bench: Bench, load: History) -> None:
        """One turn."""
        steady = by_name([latency(bench, load.latency), lives(bench, load.lives)])
        self._milliseconds.append(steady["latency.p50"])
        self._rates.append(steady["lives.rate"])
        self.inversions += steady["latency.inversions"] + steady["lives.inversions"]

    @property
    def lives(self) -> float:
        """Jobs a second, over all turns."""
        return harmonic_mean(self._rates)

    @property
    def latency(self) -> float:
        """Milliseconds: the mean of the turns' medians."""
        return fmean(self._milliseconds)


def _restarted(bench: Bench) -> float:
    """Start all services anew; the seconds until they were ready."""
    services = [bench.stack.component(name) for name in SERVICES]
    for service in services:
        service.stop()
    began = time.monotonic()
    for service in services:
        service.start()
    for service in services:
        service.wait_ready()
    ready = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    return ready


def _fill(bench: Bench, records: int) -> None:
    """Put so many records into etcd, as the API server keeps them: copies of one job that has ended.

    Through the API server it would take two writes each; nobody but PhJob's own services looks at how
    they came.
    """
    (request,) = bench.batch("record", 1, 1)
    request.body["spec"]["ttlSecondsAfterFinished"] = 1
    bench.client.send([request])
    eventually(lambda: _reclaimed(bench, request.key), "a job is a record")
    etcd_url = Site(bench.state).url("etcd", "http")
    etcd = Client(etcd_url)
    key = STORED["PhJob"].format(NAMESPACE)
    copies = _copies(_stored(etcd_url, f"{key}{request.key}"), key, records)
    while part := list(islice(copies, AT_ONCE // OF_A_TRANSACTION)):
        etcd.send(part)
    # By then the API server knows them, as it knows what is old.
    bench.api.list("PhJob", fieldSelector="status.reclaimed!=true")
    time.sleep(SETTLE_SECONDS)


def _stored(etcd: str, key: str) -> bytes:
    """What etcd holds under the key."""
    body = json.dumps({"key": b64encode(key.encode()).decode()}).encode()
    request = urllib.request.Request(f"{etcd}/v3/kv/range", body)  # noqa: S310 - loopback
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return b64decode(json.loads(answer.read())["kvs"][0]["value"])


def _reclaimed(bench: Bench, name: str) -> bool:
    job = bench.api.get("PhJob", name)
    return bool(job and job["status"].get("reclaimed"))


def _copies(stored: bytes, folder: str, records: int) -> Iterator[Request]:
    """Transactions of etcd's, each with many copies."""
    job = json.loads(stored)
    name = job["metadata"]["name"]
    for first in range(0, records, OF_A_TRANSACTION):
        puts = []
        for number in range(first, min(first + OF_A_TRANSACTION, records)):
            job["metadata"] |= {"name": f"{name}-{number}", "uid": str(uuid4())}
            put = {"key": f"{folder}{name}-{number}".encode(), "value": json.dumps(job).encode()}
            puts.append({"requestPut": {field: b64encode(text).decode() for field, text in put.items()}})
        yield Request(str(first), "/v3/kv/txn", {"success": puts})


def scale_out(bench: Bench, load: ScaleOut) -> Result:
    """The same batch with more shards, and with more replicas: what it brings, and what it costs."""
    figures = list[Figure]()
    usage = Usage()
    variants = [(f"shards-{n}", n, _shards(n)) for n in load.shards]
    variants += [(f"replicas-{n}", n, {}) for n in load.replicas]
    for name, replicas, env in variants:
        bench.up(replicas=replicas, env=env)
        time.sleep(SETTLE_SECONDS)
        of_lives = lives(bench, load, f"scale-out.{name}")
        memory = sum(most_memory(pid) for pid in bench.pids(*SERVICES).values())
        figures += [*of_lives.figures, Figure(f"scale-out.{name}.memory", memory, "MiB")]
        usage = of_lives.usage
    return Result("scale-out", figures, usage)


def _shards(count: int) -> dict[str, dict[str, str]]:
    """Let each replica be a shard of its own."""
    return {
        f"{service}-{number}" if number > 1 else service: {"SHARDS": str(count), "SHARD": str(number - 1)}
        for service in SERVICES
        for number in range(1, count + 1)
    }

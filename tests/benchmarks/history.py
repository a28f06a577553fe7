"""The scenario history: the cost of many finished records in speed, memory, start-up time and idle CPU."""

import json
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from itertools import islice
from statistics import fmean, harmonic_mean
from uuid import uuid4

from tests.benchmarks.bench import Bench
from tests.benchmarks.client import LoadClient, Request
from tests.benchmarks.cpu_usage import measured_cpu, peak_memory_mib
from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.load import HistoryLoad
from tests.benchmarks.report import values_by_name
from tests.benchmarks.scenarios import SETTLE_SECONDS, measure_latency, measure_lives
from tests.support.cluster import NAMESPACE, SERVICES
from tests.support.history import ETCD_PREFIXES
from tests.support.waiting import eventually

from dev.paths import StackPaths

RECORDS_PER_TRANSACTION = 100
"""The number of records in one transaction of etcd, which allows 128 operations."""
RECORDS_PER_SEND = 10_000
"""The number of records that are prepared before they are sent."""
WITHOUT = "without"
"""The name of the stack without records."""


def measure_history(without: Bench, bench: Bench, load: HistoryLoad) -> Result:
    """Measure a stack with many records, and compare its speed with a stack `without` records.

    The two stacks take turns, and also take turns in being first. Otherwise a machine that becomes slower or
    faster in between would affect only one of them.
    """
    _create_records(bench, load.records)
    _restart_services(without)
    ready = _restart_services(bench)
    with measured_cpu(bench.pids(*SERVICES)) as idle:
        time.sleep(load.idle_seconds)
    pids = {**bench.pids(), **{f"{name}-{WITHOUT}": pid for name, pid in without.pids().items()}}
    speeds = {"with": AverageSpeed(), WITHOUT: AverageSpeed()}
    with measured_cpu(pids) as cpu:
        for turn in range(load.rounds):
            stacks = [("with", bench), (WITHOUT, without)]
            for name, stack in stacks if turn % 2 else reversed(stacks):
                speeds[name].measure(stack, load)
    memory = {name: peak_memory_mib(pid) for name, pid in bench.pids(*SERVICES).items()}
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
    return Result("history", figures, cpu)


class AverageSpeed:
    """The speed of one of two stacks that are measured in turns."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._milliseconds: list[float] = []
        self.inversions = 0.0

    def measure(self, bench: Bench, load: HistoryLoad) -> None:
        """Measure the stack once more."""
        values = values_by_name([measure_latency(bench, load.latency), measure_lives(bench, load.lives)])
        self._milliseconds.append(values["latency.p50"])
        self._rates.append(values["lives.rate"])
        self.inversions += values["latency.inversions"] + values["lives.inversions"]

    @property
    def lives(self) -> float:
        """Jobs per second, over all turns."""
        return harmonic_mean(self._rates)

    @property
    def latency(self) -> float:
        """The mean of the turns' medians, in milliseconds."""
        return fmean(self._milliseconds)


def _restart_services(bench: Bench) -> float:
    """Restart all services. Returns the seconds until they were ready."""
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


def _create_records(bench: Bench, records: int) -> None:
    """Write so many records to etcd, as the API server stores them: copies of one job that has ended.

    Through the API server, each record would take two writes. The services cannot see the difference.
    """
    (request,) = bench.new_batch("record", 1, 1)
    request.body["spec"]["ttlSecondsAfterFinished"] = 1
    bench.client.send([request])
    eventually(lambda: _is_reclaimed(bench, request.key), f"job {request.key} is reclaimed")
    etcd_url = StackPaths(bench.state).url("etcd", "http")
    etcd = LoadClient(etcd_url)
    prefix = ETCD_PREFIXES["PhJob"].format(NAMESPACE)
    copies = copy_transactions(read_etcd(etcd_url, f"{prefix}{request.key}"), prefix, records)
    while part := list(islice(copies, RECORDS_PER_SEND // RECORDS_PER_TRANSACTION)):
        etcd.send(part)
    # A LIST, so that the API server's watch cache contains the records before the measurement.
    bench.api.list("PhJob", fieldSelector="status.reclaimed!=true")
    time.sleep(SETTLE_SECONDS)


def read_etcd(etcd: str, key: str) -> bytes:
    """Return the value of a key in etcd."""
    body = json.dumps({"key": b64encode(key.encode()).decode()}).encode()
    request = urllib.request.Request(f"{etcd}/v3/kv/range", body)  # noqa: S310 - loopback
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        return b64decode(json.loads(response.read())["kvs"][0]["value"])


def _is_reclaimed(bench: Bench, name: str) -> bool:
    job = bench.api.get("PhJob", name)
    return bool(job and job["status"].get("reclaimed"))


def copy_transactions(stored: bytes, prefix: str, records: int) -> Iterator[Request]:
    """Yield transactions of etcd that write copies of a stored job."""
    job = json.loads(stored)
    name = job["metadata"]["name"]
    for first in range(0, records, RECORDS_PER_TRANSACTION):
        puts = []
        for number in range(first, min(first + RECORDS_PER_TRANSACTION, records)):
            job["metadata"] |= {"name": f"{name}-{number}", "uid": str(uuid4())}
            put = {"key": f"{prefix}{name}-{number}".encode(), "value": json.dumps(job).encode()}
            puts.append({"requestPut": {field: b64encode(text).decode() for field, text in put.items()}})
        yield Request(str(first), "/v3/kv/txn", {"success": puts})

"""The memory of each service after a restart with many jobs.

The scenarios are pending-jobs, running-jobs, standing-pods and hostile-sizes. The objects are copies of a few
real ones, written to etcd as the API server stores them. The peak includes the first lists and the snapshots.
The services cannot see how the objects came into being.
"""

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPException
from itertools import islice
from uuid import uuid4

from tests.benchmarks.bench import Bench, Run, cpu_quantity, group_of
from tests.benchmarks.client import LoadClient, Request
from tests.benchmarks.cpu_usage import peak_memory_mib
from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.history import read_etcd
from tests.benchmarks.load import MemoryLoad
from tests.benchmarks.scenarios import SETTLE_SECONDS, wait_for_usage
from tests.support.api import ApiError
from tests.support.builders import RUN_FOR, a_notebook
from tests.support.cluster import NAMESPACE, SERVICES
from tests.support.history import ETCD_PREFIXES
from tests.support.waiting import eventually

from dev.paths import StackPaths

OBJECTS_PER_TRANSACTION = 100
"""The number of objects in one transaction of etcd, which allows 128 operations."""
TRANSACTION_BYTES = 2**20
"""The size of one transaction of etcd, which allows 1.5 MiB."""
REQUESTS_PER_SEND = 100
CATCH_UP_SECONDS = 600
"""The time in which the API server has read the copies from etcd."""
LARGEST_COMMAND = "<" * (255 * 2**10)
"""The command that is largest in JSON: the API server writes `<` as six characters."""

Copy = Callable[[int], dict[str, bytes]]
"""Returns the keys and values in etcd of the nth copy."""


def measure_pending_jobs(bench: Bench, load: MemoryLoad) -> Result:
    """Measure jobs that wait behind another one for quota."""
    name, stored = _store_waiting_job(bench)
    return _measure(bench, "pending-jobs", load.jobs, _copy_of(name, {"PhJob": stored}))


def measure_running_jobs(bench: Bench, load: MemoryLoad) -> Result:
    """Measure jobs whose pods run for an hour."""
    return _measure_with_pods(bench, "running-jobs", load.jobs, "1h", "Running")


def measure_standing_pods(bench: Bench, load: MemoryLoad) -> Result:
    """Measure jobs that have succeeded and whose pods stand."""
    return _measure_with_pods(bench, "standing-pods", load.jobs, "1s", "Succeeded")


def _measure_with_pods(bench: Bench, scenario: str, count: int, run_for: str, phase: str) -> Result:
    """Measure jobs in a phase, with their pods."""
    requests = bench.new_batch(scenario, 1, 1)
    requests[0].body["metadata"]["annotations"][RUN_FOR] = run_for
    run: Run = bench.run(requests, phase)
    name = next(iter(run.responses))
    time.sleep(SETTLE_SECONDS)  # So that all of the pod's own writes are over.
    stored = {kind: read_etcd(_etcd(bench), f"{_prefix(kind)}{name}") for kind in ("PhJob", "Pod")}
    # It deletes the oldest of more than 12,500 pods that have ended.
    bench.stack.component("kube-controller-manager").stop()
    return _measure(bench, scenario, count, _copy_of(name, stored))


def measure_hostile_sizes(bench: Bench, load: MemoryLoad) -> Result:
    """Measure waiting jobs with the largest command that one user can submit."""
    name, stored = _store_waiting_job(bench)
    job = json.loads(stored)
    job["spec"]["command"] = LARGEST_COMMAND
    return _measure(
        bench,
        "hostile-sizes",
        load.jobs,
        _copy_of(name, {"PhJob": json.dumps(job, separators=(",", ":")).encode()}),
    )


def _store_waiting_job(bench: Bench) -> tuple[str, bytes]:
    """Let a job wait for quota behind another one. Returns its name, and its value in etcd."""
    requests = bench.new_batch("pending", 1, 2, groupQuota={"cpu": cpu_quantity(1)})
    notebook = a_notebook(f"{requests[0].key}-nb", group=group_of(requests[0]), user="u", cpu=cpu_quantity(1))
    bench.api.create(notebook)
    wait_for_usage(bench, group_of(requests[0]), cpu_quantity(1))
    head, waiting = (request.key for request in requests)
    bench.client.send(requests[:1])
    bench.client.send(requests[1:])
    eventually(lambda: _reason_of(bench, head) == "GroupQuota", f"job {head} waits")
    return waiting, read_etcd(_etcd(bench), f"{_prefix('PhJob')}{waiting}")


def _reason_of(bench: Bench, name: str) -> str:
    job = bench.api.get("PhJob", name)
    return str(job["status"].get("reason")) if job else ""


def _measure(bench: Bench, scenario: str, count: int, copy: Copy) -> Result:
    """Measure the peak of each service after a restart, with so many copies and without them."""
    _stop(bench)
    _start(bench)
    empty = _peaks(bench)
    _stop(bench)
    _write_copies(bench, copy, count)
    ready = _start(bench)
    full = _peaks(bench)
    figures = [
        Figure(f"{scenario}.memory", max(full.values()), "MiB"),
        Figure(f"{scenario}.ready", ready, "s"),
        *(Figure(f"{scenario}.memory.{name}", mib, "MiB") for name, mib in full.items()),
        *(
            Figure(f"{scenario}.per-job.{name}", (mib - empty[name]) * 2**20 / count, "bytes a job")
            for name, mib in full.items()
        ),
    ]
    return Result(scenario, figures)


def _stop(bench: Bench) -> None:
    for name in SERVICES:
        bench.stack.component(name).stop()


def _start(bench: Bench) -> float:
    """Start all services. Returns the seconds until they were ready."""
    began = time.monotonic()
    services = [bench.stack.component(name) for name in SERVICES]
    for service in services:
        service.start()
    for service in services:
        service.wait_ready()
    ready = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    return ready


def _peaks(bench: Bench) -> dict[str, float]:
    """Return the highest resident memory of each service, in MiB."""
    return {name: peak_memory_mib(pid) for name, pid in bench.pids(*SERVICES).items()}


def _etcd(bench: Bench) -> str:
    return StackPaths(bench.state).url("etcd", "http")


def _prefix(kind: str) -> str:
    return ETCD_PREFIXES[kind].format(NAMESPACE)


def _copy_of(name: str, stored: Mapping[str, bytes]) -> Copy:
    """Return a function that copies an object, and whatever else has its name and uid.

    `name` ends in five digits. Each text is replaced by one of the same length, so that this also works for
    pods, which are in etcd as protocol buffers.
    """
    job = json.loads(stored["PhJob"])
    uids = {job["metadata"]["uid"], job.get("status", {}).get("podUID", "")} - {""}

    def copy(number: int) -> dict[str, bytes]:
        copied = f"{name[:-6]}{number:06}"
        replaced = {name: copied, **{uid: str(uuid4()) for uid in uids}}
        return {f"{_prefix(kind)}{copied}": _replace(value, replaced) for kind, value in stored.items()}

    return copy


def _replace(value: bytes, texts: Mapping[str, str]) -> bytes:
    for old, new in texts.items():
        value = value.replace(old.encode(), new.encode())
    return value


def _write_copies(bench: Bench, copy: Copy, count: int) -> None:
    transactions = _transactions(copy, count)
    etcd = LoadClient(_etcd(bench))
    while part := list(islice(transactions, REQUESTS_PER_SEND)):
        etcd.send(part)
    for kind in ("PhJob", "Pod"):
        eventually(
            partial(_is_served, bench, kind), f"the API server serves each {kind}", within=CATCH_UP_SECONDS
        )
    time.sleep(SETTLE_SECONDS)


def _is_served(bench: Bench, kind: str) -> bool:
    """Return whether the API server's watch cache has caught up with etcd."""
    try:
        bench.api.list(kind, limit="500")
    except (ApiError, OSError, HTTPException):  # 504: "Too large resource version".
        return False
    return True


def _transactions(copy: Copy, count: int) -> Iterator[Request]:
    """Yield transactions of etcd that write the copies."""
    puts: list[dict[str, dict[str, str]]] = []
    size = 0
    for number in range(1, count + 1):
        for key, value in copy(number).items():
            put = {"key": key.encode(), "value": value}
            puts.append({"requestPut": {field: b64encode(text).decode() for field, text in put.items()}})
            size += len(value)
        if len(puts) >= OBJECTS_PER_TRANSACTION or size >= TRANSACTION_BYTES or number == count:
            yield Request(str(number), "/v3/kv/txn", {"success": puts})
            puts, size = [], 0

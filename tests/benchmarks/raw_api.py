"""The scenario raw: the API server alone, with the writes of an admission as PhJob sends them.

The requests go to a namespace that no service watches, on the stack of the scenario burst.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tests.benchmarks.bench import (
    IMAGE,
    TYPE,
    Bench,
    collection_path,
    cpu_quantity,
    job_of,
    requests_per_second,
    submission,
)
from tests.benchmarks.client import LoadClient, Request, Response
from tests.benchmarks.cpu_usage import measured_cpu
from tests.benchmarks.figures import Figure, Result, percentile, raw_limit
from tests.benchmarks.load import RawLoad
from tests.support.api import Api
from tests.support.builders import an_image, an_instance_type
from tests.support.waiting import eventually

from phjob_core.messages import Admit
from phjob_core.quantities import parse
from phjob_pod_manager import status_patches
from phjob_pod_manager.manifest.builder import PodInputs, build
from phjob_pod_manager.pod_writes import remove_gate
from phjob_runtime.settings import JobSubmission

WRITES = ("create", "status-patch", "pod-create", "pod-ungate")
"""The writes of an admission: the job, its status, its gated pod, and the removal of that gate."""
JSON_PATCH, MERGE_PATCH, PUT = "json-patch", "merge-patch", "put"
"""The formats in which a status can be written."""


def measure_raw(bench: Bench, load: RawLoad) -> Result:
    """Measure each write at full speed and over one connection, and the formats of a status write."""
    namespace = new_namespace(bench)
    figures = []
    with measured_cpu(bench.pids()) as cpu:
        at_full_speed = write_admissions(bench.client, namespace, "many", load.objects, load.connections)
        rates = [requests_per_second(responses) for responses in at_full_speed]
    one_by_one = write_admissions(bench.client, namespace, "single", load.one_by_one, 1)
    medians = [percentile([r.milliseconds for r in responses], 50) for responses in one_by_one]
    for name, rate, median in zip(WRITES, rates, medians, strict=True):
        figures += [Figure(f"raw.{name}", rate, "/s"), Figure(f"raw.{name}.p50", median, "ms alone")]
    figures.append(Figure("raw.create-and-patch", medians[0] + medians[1], "ms alone"))
    figures.append(Figure("raw.limit", raw_limit(*rates), "/s"))
    for status_format in (JSON_PATCH, MERGE_PATCH, PUT):
        figures += _measure_status_writes(bench, namespace, load, status_format)
    return Result("raw", figures, cpu)


def new_namespace(bench: Bench) -> str:
    """Create a namespace in which pods can be created. Returns its name."""
    namespace = f"raw-{uuid4().hex[:6]}"
    api = Api(bench.stack.kubeconfig, namespace)
    api.create_namespace()
    account = ("get", "serviceaccount", "default", f"--namespace={namespace}", "--ignore-not-found")
    eventually(lambda: bench.stack.kubectl(*account), "pods can be created")
    return namespace


def write_admissions(
    client: LoadClient, namespace: str, group: str, count: int, connections: int
) -> list[list[Response]]:
    """Write so many admissions, one kind of write after the other.

    Returns the responses to each of `WRITES`.
    """
    jobs = [job_of(group, number, run_for="1s") for number in range(count)]
    inputs = PodInputs(an_image(IMAGE), an_instance_type(TYPE))
    created = client.send((submission(job, namespace) for job in jobs), connections=connections)
    patches, pods = [], []
    for job in jobs:
        name = job["metadata"]["name"]
        job["metadata"]["uid"] = created[name].uid
        patches.append(_status_write(JSON_PATCH, job, created[name], namespace))
        job["status"] = {
            "fence": _admit_command(job).token,
            "resources": {"cpu": cpu_quantity(1), "memory": "64Mi"},
        }
        pods.append(Request(name, collection_path("Pod", namespace), build(job, inputs, JobSubmission())))
    patched = client.send(patches, connections=connections)
    gated = client.send(pods, connections=connections)
    gates = [
        Request(
            name,
            f"{collection_path('Pod', namespace)}/{name}",
            remove_gate(response.uid),
            "PATCH",
            "application/json-patch+json",
        )
        for name, response in gated.items()
    ]
    ungated = client.send(gates, connections=connections)
    return [list(responses.values()) for responses in (created, patched, gated, ungated)]


def _measure_status_writes(bench: Bench, namespace: str, load: RawLoad, status_format: str) -> list[Figure]:
    """Measure the rate and the CPU time of an admission's status write in one format."""
    jobs = [job_of(status_format, number, run_for="1s") for number in range(load.objects)]
    created = bench.client.send((submission(job, namespace) for job in jobs), connections=load.connections)
    writes = [_status_write(status_format, job, created[job["metadata"]["name"]], namespace) for job in jobs]
    with measured_cpu(bench.pids("kube-apiserver", "etcd")) as cpu:
        responses = bench.client.send(writes, connections=load.connections)
    spent = 1000 * cpu.of("kube-apiserver", "etcd") / len(writes)
    return [
        Figure(f"raw.by-{status_format}", requests_per_second(responses.values()), "/s"),
        Figure(f"raw.by-{status_format}.cpu", spent, "ms of CPU a write"),
    ]


def _status_write(status_format: str, job: dict[str, Any], created: Response, namespace: str) -> Request:
    """Return the status write of an admission, which fails if another client has changed the job.

    JSON Patch, which PhJob uses, tests the fields that the decision was based on. The other two formats
    contain the object's resourceVersion.
    """
    name = job["metadata"]["name"]
    path = f"{collection_path('PhJob', namespace)}/{name}/status"
    metadata = {**job["metadata"], "uid": created.uid, "resourceVersion": created.version}
    command = _admit_command({**job, "metadata": metadata})
    now = datetime.now(UTC)
    patch = status_patches.admit(command, created.uid, now, status_patches.Observed(now, generation=1))
    if status_format == JSON_PATCH:
        return Request(name, path, patch, "PATCH", "application/json-patch+json")
    fields = {op["path"].removeprefix("/status/"): op["value"] for op in patch if op["op"] != "test"}
    if status_format == MERGE_PATCH:
        body = {"metadata": {"resourceVersion": created.version}, "status": fields}
        return Request(name, path, body, "PATCH", "application/merge-patch+json")
    fields = {"phase": "Preparing", "requeued": 0, **fields}
    return Request(name, path, {**job, "metadata": metadata, "status": fields}, "PUT")


def _admit_command(job: dict[str, Any]) -> Admit:
    """Return the command by which the scheduler would admit the job."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    resources = {"cpu": parse("cpu", cpu_quantity(1)), "memory": parse("memory", "64Mi")}
    group = job["spec"]["groupName"]
    return Admit(
        uid=uid, name=name, group=group, fence="", token=f"raw#{name}", resources=resources, revision=1
    )

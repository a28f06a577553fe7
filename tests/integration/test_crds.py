"""The custom resources on a real API server: what it fills in, what it refuses and in which words, and that PrimeHub's own objects apply.

Only kubectl speaks here, as a user does. What the services do with the objects is tested elsewhere.
"""

import json
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Kubectl = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "k8s" / "crds"
EXAMPLES = ROOT / "k8s" / "examples"
ERRORS = (ROOT / "docs" / "errors.md").read_text()

FINAL = ("Succeeded", "Failed", "Cancelled")
NEW = {"phase": "Pending", "reason": "Queued", "reclaimed": False, "fence": "", "requeued": 0}


@pytest.fixture(scope="module", autouse=True)
def _crds(kubectl: Kubectl) -> None:
    """The five kinds are installed and served."""
    assert kubectl("apply", "-f", str(CRDS)).returncode == 0
    assert kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS)).returncode == 0
    until = time.monotonic() + 30
    while kubectl("get", "phj,phg,instancetypes,images,datasets", "-A").returncode:
        assert time.monotonic() < until, "the kinds are not served"


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"crds-{uuid.uuid4().hex[:8]}"
    assert kubectl("create", "namespace", name).returncode == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def example(name: str, namespace: str) -> str:
    """One file of k8s/examples, moved to another namespace."""
    return (EXAMPLES / name).read_text().replace("namespace: hub", f"namespace: {namespace}")


def thing(kind: str, namespace: str, spec: dict[str, Any], name: str = "one") -> str:
    """A manifest."""
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "primehub.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})


def job(namespace: str, name: str = "job-1", **spec: object) -> str:
    """A small PhJob's manifest."""
    smallest = {"command": "true", "userName": "jackpan", "groupName": "phusers", "image": "base-notebook", "instanceType": "cpu-tiny"}
    return thing("PhJob", namespace, {**smallest, **spec}, name)


def answer(done: subprocess.CompletedProcess[str]) -> str:
    """What a person reads."""
    return (done.stderr + done.stdout).strip()


def read(kubectl: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """An object ("phj/job-1") as the server gives it."""
    found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", name, "-o", "json").stdout)
    return found


def patch(kubectl: Kubectl, namespace: str, name: str, what: object, *more: str) -> subprocess.CompletedProcess[str]:
    """A merge patch."""
    return kubectl("-n", namespace, "patch", name, "--type", "merge", "-p", json.dumps(what), *more)


def set_phase(kubectl: Kubectl, namespace: str, name: str, phase: str | None) -> subprocess.CompletedProcess[str]:
    """What pod-manager does: write a job's phase."""
    return patch(kubectl, namespace, f"phj/{name}", {"status": {"phase": phase}}, "--subresource", "status")


# --- a new job ---


def test_the_seeds_example_applies_word_for_word_and_reads_pending(kubectl: Kubectl, namespace: str) -> None:
    """Its own `status: {phase: pending}` is dropped; nobody had to write one."""
    done = kubectl("apply", "-f", "-", input=example("11-job-qm42d.yaml", namespace))
    assert answer(done) == "phjob.primehub.io/job-qm42d created"
    found = read(kubectl, namespace, "phj/job-qm42d")
    assert found["status"] == NEW
    assert found["spec"]["cancel"] is False
    assert found["spec"]["command"] == 'echo "start"\n'


def test_a_job_applied_again_after_it_finished_stays_as_it_is(kubectl: Kubectl, namespace: str) -> None:
    """`kubectl apply -f` of a folder may be repeated at any time."""
    manifest = example("11-job-qm42d.yaml", namespace)
    kubectl("apply", "-f", "-", input=manifest)
    set_phase(kubectl, namespace, "job-qm42d", "Succeeded")
    assert kubectl("apply", "-f", "-", input=manifest).returncode == 0
    assert read(kubectl, namespace, "phj/job-qm42d")["status"]["phase"] == "Succeeded"


def test_the_examples_apply_in_one_go(kubectl: Kubectl, namespace: str) -> None:
    """In the order of the files' names, without a warning."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    done = kubectl("apply", "-f", "-", input="\n---\n".join(example(file.name, namespace) for file in files))
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= len(files)


def test_the_server_can_choose_a_jobs_name(kubectl: Kubectl, namespace: str) -> None:
    """The bound on names leaves room for generateName."""
    manifest = json.loads(job(namespace))
    manifest["metadata"] = {"generateName": "a-long-prefix-that-the-server-cuts-to-make-its-suffix-fit-in-", "namespace": namespace}
    assert kubectl("create", "-f", "-", input=json.dumps(manifest)).returncode == 0


def test_a_transition_can_test_the_status_that_nobody_wrote(kubectl: Kubectl, namespace: str) -> None:
    """The compare-and-swap of an admission works on a new job, and whoever comes second loses."""
    kubectl("create", "-f", "-", input=job(namespace))
    admit = json.dumps(
        [
            {"op": "test", "path": "/status/phase", "value": "Pending"},
            {"op": "test", "path": "/status/fence", "value": ""},
            {"op": "replace", "path": "/status/phase", "value": "Preparing"},
        ]
    )
    both = [kubectl("-n", namespace, "patch", "phj", "job-1", "--subresource", "status", "--type", "json", "-p", admit) for _ in range(2)]
    assert answer(both[0]) == "phjob.primehub.io/job-1 patched"
    assert answer(both[1]) == "The request is invalid: the server rejected our request due to an error in our request"


# --- what may change, and what not ---


@pytest.mark.parametrize("field", ["command", "userName", "userId", "groupName", "groupId", "image", "instanceType"])
def test_what_a_job_runs_cannot_be_changed(kubectl: Kubectl, namespace: str, field: str) -> None:
    """Neither to another value nor, where it is optional, to none."""
    kubectl("create", "-f", "-", input=job(namespace, userId="u", groupId="g"))
    refused = f'The PhJob "job-1" is invalid: spec.{field}: Forbidden: spec.{field} cannot be changed after creation; create a new PhJob'
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {field: "other"}})) == refused
    assert patch(kubectl, namespace, "phj/job-1", {"spec": {field: None}}).returncode == 1


@pytest.mark.parametrize("field", ["userId", "groupId"])
def test_an_id_cannot_be_added_later(kubectl: Kubectl, namespace: str, field: str) -> None:
    """Absent is a value like another."""
    kubectl("create", "-f", "-", input=job(namespace))
    assert f"spec.{field} cannot be changed" in answer(patch(kubectl, namespace, "phj/job-1", {"spec": {field: "x"}}))


def test_deadlines_title_and_cancel_can_be_changed_on_a_running_job(kubectl: Kubectl, namespace: str) -> None:
    """All five in one edit."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", "Running")
    edit = {"displayName": "Better", "activeDeadlineSeconds": 0, "ttlSecondsAfterFinished": 60, "requeueLimit": 3, "cancel": True}
    assert patch(kubectl, namespace, "phj/job-1", {"spec": edit}).returncode == 0
    assert {key: read(kubectl, namespace, "phj/job-1")["spec"][key] for key in edit} == edit


@pytest.mark.parametrize("value", [False, None])
def test_a_cancel_cannot_be_taken_back(kubectl: Kubectl, namespace: str, value: object) -> None:
    """Setting it to false and leaving it out are the same."""
    kubectl("create", "-f", "-", input=job(namespace, cancel=True))
    refused = 'The PhJob "job-1" is invalid: spec.cancel: Forbidden: spec.cancel cannot be taken back; create a new PhJob'
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {"cancel": value}})) == refused


@pytest.mark.parametrize("phase", FINAL)
def test_a_finished_job_stays_finished(kubectl: Kubectl, namespace: str, phase: str) -> None:
    """No other phase, none at all, no other end; the rest of its status may still be written."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", phase)
    refused = 'The PhJob "job-1" is invalid: status.phase: Forbidden: a finished job stays finished; create a new PhJob'
    for other in {None, "Pending", "Running", *FINAL} - {phase}:
        assert answer(set_phase(kubectl, namespace, "job-1", other)) == refused
    assert answer(patch(kubectl, namespace, "phj/job-1", {"status": None}, "--subresource", "status")) == refused
    after = {"status": {"logURL": "file:///logs/job-1", "reclaimed": True}}
    assert patch(kubectl, namespace, "phj/job-1", after, "--subresource", "status").returncode == 0


# --- what is read ---


def test_field_selectors_find_jobs_by_phase_group_and_reclaimed(kubectl: Kubectl, namespace: str) -> None:
    """Also those whose status nobody has written yet."""
    for name, group in (("new", "a"), ("running", "a"), ("done", "b")):
        kubectl("create", "-f", "-", input=job(namespace, name, groupName=group))
    set_phase(kubectl, namespace, "running", "Running")
    patch(kubectl, namespace, "phj/done", {"status": {"phase": "Failed", "reclaimed": True}}, "--subresource", "status")

    def found(selector: str) -> list[str]:
        return kubectl("-n", namespace, "get", "phj", "--field-selector", selector, "-o", "name").stdout.split()

    assert found("status.phase=Pending") == ["phjob.primehub.io/new"]
    assert found("status.phase=Failed") == ["phjob.primehub.io/done"]
    assert found("status.reclaimed!=true") == ["phjob.primehub.io/new", "phjob.primehub.io/running"]
    assert found("status.reclaimed!=true,spec.groupName=a,status.phase=Running") == ["phjob.primehub.io/running"]


def test_get_shows_who_where_and_why(kubectl: Kubectl, namespace: str) -> None:
    """The columns are those of the contract, in its order."""
    kubectl("create", "-f", "-", input=job(namespace))
    short, wide = (kubectl("-n", namespace, "get", "phj", *more).stdout.splitlines() for more in ((), ("-o", "wide")))
    assert short[0].split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    assert short[1].split()[:5] == ["job-1", "jackpan", "phusers", "Pending", "Queued"]
    assert wide[0].split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE", "INSTANCE", "NODE", "MESSAGE"]


def test_a_group_shows_how_full_it_is(kubectl: Kubectl, namespace: str) -> None:
    """As reported, beside its quota."""
    kubectl("create", "-f", "-", input=thing("PhGroup", namespace, {"groupQuota": {"cpu": 4, "gpu": 2}}))
    status = {"pending": 3, "preparing": 0, "running": 2, "used": {"cpu": "3500m", "gpu": 2}, "limit": {"cpu": 4, "gpu": 2}, "head": "job-9"}
    assert patch(kubectl, namespace, "phg/one", {"status": status}, "--subresource", "status").returncode == 0
    header, row = kubectl("-n", namespace, "get", "phg", "-o", "wide").stdout.splitlines()
    assert header.split()[:6] == ["NAME", "PENDING", "PREPARING", "RUNNING", "HEAD", "AGE"]
    columns = {found[0]: row[found.start() :].split(" ")[0] for found in re.finditer(r"\S+", header)}
    expected = {"NAME": "one", "PENDING": "3", "PREPARING": "0", "RUNNING": "2", "HEAD": "job-9", "CPU": "3500m", "CPU-QUOTA": "4", "GPU": "2"}
    assert {name: columns[name] for name in expected} == expected


# --- the catalog ---

# As PrimeHub's own chart, console and documentation have them.
PRIMEHUB = """
- kind: InstanceType
  spec:
    displayName: GPU 1
    description: 2 CPU / 7G / 1 GPU
    limits.cpu: 2
    limits.memory: 7G
    limits.nvidia.com/gpu: 1
    requests.cpu: 1.5
    requests.memory: 5G
    nodeSelector: {memory: low}
    tolerations: [{key: hub.jupyter.org/dedicated, operator: Equal, value: user, effect: NoSchedule}]
- {kind: InstanceType, spec: {limits.cpu: 0.5, limits.memory: 0.5G, limits.nvidia.com/gpu: 0, nodeSelector: {}}}
- {kind: Image, spec: {type: both, url: "infuseai/docker-stacks:a", urlForGpu: "infuseai/docker-stacks:b", pullSecret: ""}}
- {kind: Image, spec: {groupName: phusers, imageSpec: {baseImage: jupyter/base-notebook, packages: {apt: [curl], pip: []}, cancel: false}}}
- {kind: Dataset, spec: {type: pv, volumeName: rw, url: "", variables: {}, pv: {provisioning: auto}, enableUploadServer: "true", volumeSize: 1}}
- {kind: Dataset, spec: {type: pv, volumeName: "hostpath:/mnt/data"}}
- {kind: Dataset, spec: {type: git, url: "https://github.com/a/b#main", gitsync: {secret: gitsync-x}, volumeName: b}}
- {kind: Dataset, spec: {type: env, volumeName: db, variables: {MYSQLDB: sql_mine, PORT: 3306}}}
- {kind: Dataset, spec: {type: nfs, nfs: {server: 192.168.0.10, path: /}, volumeName: n}}
- {kind: Dataset, spec: {type: hostPath, hostPath: {path: /mnt/data}, volumeName: h}}
"""


@pytest.mark.parametrize("real", yaml.safe_load(PRIMEHUB))
def test_primehubs_own_objects_apply_and_lose_nothing(kubectl: Kubectl, namespace: str, real: dict[str, Any]) -> None:
    """Without a warning, with every field that PrimeHub writes."""
    kind = real["kind"].lower()
    done = kubectl("apply", "-f", "-", input=thing(real["kind"], namespace, real["spec"]))
    assert answer(done) == f"{kind}.primehub.io/one created"
    assert read(kubectl, namespace, f"{kind}/one")["spec"] == real["spec"]


def test_what_primehubs_console_writes_as_null_counts_as_absent(kubectl: Kubectl, namespace: str) -> None:
    """The server drops it, so that no service has to know the difference."""
    fine = {"limits.cpu": 1, "limits.memory": "1G"}
    spec = {**fine, "requests.cpu": None, "nodeSelector": None, "tolerations": [{"operator": "Exists", "effect": None}]}
    assert kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, spec)).returncode == 0
    assert read(kubectl, namespace, "instancetype/one")["spec"] == {**fine, "tolerations": [{"operator": "Exists"}]}


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("limits.cpu", [1, 0.5, 2.0, "2", "500m", ".25"], ["lots", "1 core", 0, "0", "0m", -1, True, [], [1], {}, {"a": 1}, "9" * 33]),
        ("limits.memory", ["4G", "0.5G", "512Mi", 536870912, "1e9"], ["4GB", "4 G", "", 0, "0G", "-1G", "2E", 0.5, True, [], {}]),
        ("limits.nvidia.com/gpu", [0, 8, "1"], [-1, 0.5, "half", "1Gi", True, []]),
        ("limits.gpu", [1], [0.5]),
        ("requests.cpu", [0, 0.1, "100m"], [-1, "some", False, {}]),
        ("requests.memory", ["0G", "1G", 0], ["-1G", "some", 1.5]),
        ("gpuResourceName", ["amd.com/gpu"], ["gpu", "amd.com/"]),
    ],
)
def test_an_instance_type_takes_quantities_only(kubectl: Kubectl, namespace: str, key: str, good: list[Any], bad: list[Any]) -> None:
    """Numbers, fractions and strings, as the key allows; a refusal names the key."""
    fine = {"limits.cpu": 1, "limits.memory": "1G"}
    for value in good:
        done = kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, {**fine, key: value}))
        assert done.returncode == 0, (value, answer(done))
    for value in bad:
        done = kubectl("apply", "-f", "-", input=thing("InstanceType", namespace, {**fine, key: value}))
        assert done.returncode == 1, value
        assert f"spec.{key}" in answer(done)


def test_a_groups_quota_takes_known_resources_and_quantities_only(kubectl: Kubectl, namespace: str) -> None:
    """No misspelt key, no fraction outside a string, nothing negative; what is refused changes nothing."""
    good = {"cpu": "0.5", "memory": "4G", "gpu": 4, "nvidia.com/mig-1g.5gb": 2}
    assert kubectl("create", "-f", "-", input=thing("PhGroup", namespace, {"userQuota": good, "groupQuota": good})).returncode == 0
    for quota in ({"gpus": 1}, {"CPU": 1}, {"mem": "1G"}, {"/gpu": 1}, {"cpu": 0.5}, {"cpu": "-1"}, {"memory": "4GB"}, {"memory": "2E"}, {"gpu": True}):
        assert patch(kubectl, namespace, "phg/one", {"spec": {"groupQuota": quota}}).returncode == 1, quota
    assert read(kubectl, namespace, "phg/one")["spec"]["groupQuota"] == good


# --- bounds and words ---


def test_a_command_may_have_256_kib_and_not_a_byte_more(kubectl: Kubectl, namespace: str) -> None:
    """Counted in bytes; each refusal is quoted in docs/errors.md."""
    for name, command in (("ascii", "x" * 262144), ("accents", "é" * 131072)):
        assert kubectl("create", "-f", "-", input=job(namespace, name, command=command)).returncode == 0
        assert read(kubectl, namespace, f"phj/{name}")["spec"]["command"] == command
    for verb, command in (("create", "x" * 262145), ("create", "é" * 131073), ("apply", "x" * 262144)):
        done = kubectl(verb, "-f", "-", input=job(namespace, command=command))
        assert done.returncode == 1
        assert f"```text\n{answer(done)}\n```" in ERRORS
    assert kubectl("apply", "--server-side", "-f", "-", input=job(namespace, command="x" * 262144)).returncode == 0


def documented() -> Iterator[Any]:
    """The console blocks of docs/errors.md, part one: one test each, named after its heading."""
    part = ERRORS.split("\n## What the API server answers\n")[1].split("\n## ")[0]
    for section in part.split("\n### ")[1:]:
        heading, _, text = section.partition("\n")
        for block in re.findall(r"```console\n(.*?)\n```", text, re.DOTALL):
            yield pytest.param(block, id=heading)


@pytest.mark.parametrize("block", list(documented()))
def test_the_documented_answer_is_the_servers_word_for_word(kubectl: Kubectl, namespace: str, block: str) -> None:
    """Each `$ kubectl` of the page is run as it stands there, on the examples and a running job-qm42d.

    The points of a list may come in any order: the server checks fields in none.
    """
    kubectl("apply", "-f", "-", input="\n---\n".join(example(file.name, namespace) for file in sorted(EXAMPLES.glob("*.yaml"))))
    set_phase(kubectl, namespace, "job-qm42d", "Running")
    for step in re.split(r"^\$ kubectl ", block, flags=re.MULTILINE)[1:]:
        line, _, rest = step.partition("\n")
        command, heredoc, _ = line.partition(" <<'EOF'")
        manifest, _, expected = rest.partition("\nEOF\n") if heredoc else ("", "", rest)
        args = [namespace if word == "hub" else word for word in shlex.split(command)]
        done = kubectl(*args, input=manifest.replace("namespace: hub", f"namespace: {namespace}"))
        assert sorted(answer(done).splitlines()) == sorted(expected.strip().splitlines())


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node below this one, with its path."""
    for name, node in schema.get("properties", {}).items():
        yield f"{path}.{name}", node
        yield from fields(node, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield path + mark, schema[key]
            yield from fields(schema[key], path + mark)


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_field_is_described_and_has_a_bound(file: Path) -> None:
    """`kubectl explain` has an answer everywhere, and nobody can fill the store through one field."""
    bounds = {"string": ("maxLength", "enum", "format"), "integer": ("maximum",), "array": ("maxItems",), "": ("maxLength",)}
    for path, node in fields(yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"], file.stem):
        if ".metadata" in path:
            continue
        kind = node.get("type", "")
        assert "description" in node or path.endswith(("[]", "{}")), path
        assert kind in ("object", "boolean") or any(bound in node for bound in bounds[kind]), path
        assert "additionalProperties" not in node or "maxProperties" in node, path

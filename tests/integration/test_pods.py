"""The pods of jobs, validated by a real API server."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from escapism import unescape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.pod_cases import CASES, a_phjob, an_image, an_instance_type
from tests.support.cluster import Kubectl

from phjob_core.labels import label_value
from phjob_pod_manager.manifest.builder import PodInputs, build
from phjob_runtime.settings import JobSubmission

BASELINE = "baseline"
RESTRICTED = "restricted"
OPEN = "open"
NODE_FOLDERS = ("hostPath", "git")
"""The types of datasets that are folders of the node."""
EXAMPLES = 300
RUNTIME_CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "sandboxed"},
    "handler": "runsc",
}
PODS_PER_CALL = 30
"""The number of pods in one call of kubectl."""


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[None]:
    """Create a namespace for each level of PodSecurity, with what the settings of the full pod name."""
    for name, level in ((BASELINE, "baseline"), (RESTRICTED, "restricted"), (OPEN, "privileged")):
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
        for account in ("default", "jobs"):
            kubectl("-n", name, "create", "serviceaccount", account)
    kubectl("create", "priorityclass", "jobs", "--value=10")
    kubectl("create", "-f", "-", input=json.dumps(RUNTIME_CLASS))
    yield
    kubectl("delete", "namespace", BASELINE, RESTRICTED, OPEN, "--wait=false")
    kubectl("delete", "priorityclass/jobs", "runtimeclass/sandboxed")


def complaint(kubectl: Kubectl, namespace: str, *pods: Any) -> str:
    """Return the API server's error or warning about the pods; empty if there is none."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    answer = kubectl("-n", namespace, "create", "--dry-run=server", "-f", "-", input=manifest)
    return answer.stderr if answer.returncode or answer.stderr else ""


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", CASES)
def test_the_api_server_accepts_the_pod(kubectl: Kubectl, name: str) -> None:
    """It has no warning either."""
    assert not complaint(kubectl, OPEN, build(*CASES[name]))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", CASES)
def test_the_pod_conforms_to_pod_security_baseline_without_folders_of_the_node(
    kubectl: Kubectl, name: str
) -> None:
    """`baseline` forbids hostPath volumes, which datasets of type hostPath and git use (spec.md, P10)."""
    job, inputs, job_submission = CASES[name]
    allowed = [
        dataset
        for dataset in inputs.datasets
        if dataset.item is not None and dataset.item["spec"]["type"] not in NODE_FOLDERS
    ]
    without_folders = replace(inputs, datasets=allowed)
    assert not complaint(kubectl, BASELINE, build(job, without_folders, job_submission))
    if len(allowed) < len(inputs.datasets):
        assert "violates PodSecurity" in complaint(kubectl, BASELINE, build(*CASES[name]))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("fixed_ids", [True, False])
def test_only_the_profile_restricted_conforms_to_pod_security_restricted(
    kubectl: Kubectl, *, fixed_ids: bool
) -> None:
    """With all that `restricted` allows: claims, variables, every setting (spec.md, P10)."""
    job, inputs, job_submission = CASES["full"]
    allowed = [
        dataset
        for dataset in inputs.datasets
        if dataset.item is not None and dataset.item["spec"]["type"] not in (*NODE_FOLDERS, "nfs")
    ]
    for profile in ("baseline", "sudo", "restricted"):
        settings = job_submission.model_copy(update={"security_profile": profile, "fixed_ids": fixed_ids})
        found = complaint(kubectl, RESTRICTED, build(job, replace(inputs, datasets=allowed), settings))
        assert ("violates PodSecurity" in found) is (profile != "restricted"), found


@pytest.mark.usefixtures("namespaces")
def test_the_pods_of_a_job_do_not_differ_in_what_they_are_charged(kubectl: Kubectl) -> None:
    """The API server adds the requests: as much disk as the limit, so that no node promises it twice."""
    pod = build(*CASES["restricted"])
    done = kubectl(
        "-n", RESTRICTED, "create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(pod)
    )
    resources = json.loads(done.stdout)["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "10Gi"}
    assert resources["requests"]["ephemeral-storage"] == "10Gi"


DIRECTIONS = [chr(code) for code in (*range(0x2028, 0x202F), *range(0x2066, 0x206A))]
"""Characters that change how a terminal orders the text after them. No name has one."""
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=DIRECTIONS),
    min_size=1,
    max_size=255,
).filter(lambda name: name == name.strip(" "))
COMMANDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.usefixtures("namespaces")
def test_any_valid_names_and_command_give_a_valid_pod(
    kubectl: Kubectl,
) -> None:
    """Its labels decode to the names, or contain a hash of a name that is too long (spec.md, P3)."""
    pods: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []

    @given(user=NAMES, group=NAMES, command=COMMANDS)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def make(user: str, group: str, command: str) -> None:
        job = a_phjob(userName=user, groupName=group, command=command)
        job["metadata"]["name"] = f"job-{len(pods)}"
        pod = copy.deepcopy(build(job, PodInputs(an_image(), an_instance_type()), JobSubmission()))
        pods.append(dict(pod))
        jobs.append({"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", **without_server_fields(job)})
        for name, label in ((user, "user"), (group, "group")):
            value = pod["metadata"]["labels"][f"primehub.io/{label}"]
            decoded = unescape(value.removeprefix("escaped-"), escape_char="-") if len(value) < 63 else name
            assert decoded == name
            assert value == label_value(name)

    make()
    assert len(pods) >= EXAMPLES
    for start in range(0, len(pods), PODS_PER_CALL):
        assert not complaint(kubectl, OPEN, *jobs[start : start + PODS_PER_CALL])
        assert not complaint(kubectl, OPEN, *pods[start : start + PODS_PER_CALL])


def without_server_fields(job: dict[str, Any]) -> dict[str, Any]:
    """Return the PhJob as a user submits it."""
    return {"metadata": {"name": job["metadata"]["name"]}, "spec": job["spec"]}

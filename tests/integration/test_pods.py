"""The pods of jobs, validated by a real API server."""

import copy
import json
from collections.abc import Iterator
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
OPEN = "open"
EXAMPLES = 300
PODS_PER_CALL = 30
"""The number of pods in one call of kubectl."""


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[None]:
    """Create a namespace with PodSecurity `baseline`, and one without restrictions."""
    for name, level in ((BASELINE, "baseline"), (OPEN, "privileged")):
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
        kubectl("-n", name, "create", "serviceaccount", "default")
    yield
    kubectl("delete", "namespace", BASELINE, OPEN, "--wait=false")


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
        if dataset.item is not None and dataset.item["spec"]["type"] not in ("hostPath", "git")
    ]
    without_folders = PodInputs(inputs.image, inputs.instance_type, inputs.groups, allowed)
    assert not complaint(kubectl, BASELINE, build(job, without_folders, job_submission))
    if len(allowed) < len(inputs.datasets):
        assert "violates PodSecurity" in complaint(kubectl, BASELINE, build(*CASES[name]))


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in (*range(32), 127)]),
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

"""The pods that we build, judged by a real API server."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from escapism import unescape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.hub import Kubectl
from tests.unit.pod_manager.scenes import SCENES, a_phjob, an_image, an_instance_type

from pod_manager.pod_builder import Ingredients, build
from shared.labels import label_value
from shared.settings import JobSubmission

BASELINE = "baseline"
OPEN = "open"
CASES = 300
AT_ONCE = 30
"""Pods in one call of kubectl."""


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[None]:
    """One namespace under PodSecurity `baseline`, and one under none."""
    for name, level in ((BASELINE, "baseline"), (OPEN, "privileged")):
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
        kubectl("-n", name, "create", "serviceaccount", "default")
    yield
    kubectl("delete", "namespace", BASELINE, OPEN, "--wait=false")


def refusal(kubectl: Kubectl, namespace: str, *pods: Any) -> str:
    """What the API server has against the pods, warnings included; empty if nothing."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    answer = kubectl("-n", namespace, "create", "--dry-run=server", "-f", "-", input=manifest)
    return answer.stderr if answer.returncode or answer.stderr else ""


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", SCENES)
def test_the_api_server_takes_the_pod(kubectl: Kubectl, name: str) -> None:
    """Without a warning."""
    assert not refusal(kubectl, OPEN, build(*SCENES[name]))


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", SCENES)
def test_the_pod_keeps_to_pod_security_baseline_but_for_folders_of_the_node(
    kubectl: Kubectl, name: str
) -> None:
    """No baseline allows hostPath, which datasets of type hostPath and git are."""
    job, ingredients, job_submission = SCENES[name]
    allowed = [
        dataset
        for dataset in ingredients.datasets
        if dataset.item is not None and dataset.item["spec"]["type"] not in ("hostPath", "git")
    ]
    tame = Ingredients(ingredients.image, ingredients.instance_type, ingredients.groups, allowed)
    assert not refusal(kubectl, BASELINE, build(job, tame, job_submission))
    if len(allowed) < len(ingredients.datasets):
        assert "violates PodSecurity" in refusal(kubectl, BASELINE, build(*SCENES[name]))


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in (*range(32), 127)]),
    min_size=1,
    max_size=255,
).filter(lambda name: name == name.strip(" "))
COMMANDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.usefixtures("namespaces")
def test_any_names_and_command_that_the_crd_takes_give_a_pod_that_the_api_server_takes(
    kubectl: Kubectl,
) -> None:
    """And whose labels say whose it is: by decoding them, or by the hash where a name is too long."""
    pods: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []

    @given(user=NAMES, group=NAMES, command=COMMANDS)
    @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def make(user: str, group: str, command: str) -> None:
        job = a_phjob(userName=user, groupName=group, command=command)
        job["metadata"]["name"] = f"job-{len(pods)}"
        pod = copy.deepcopy(build(job, Ingredients(an_image(), an_instance_type()), JobSubmission()))
        pods.append(dict(pod))
        jobs.append({"apiVersion": "primehub.io/v1alpha1", "kind": "PhJob", **without_server_fields(job)})
        for name, label in ((user, "user"), (group, "group")):
            value = pod["metadata"]["labels"][f"primehub.io/{label}"]
            decoded = unescape(value.removeprefix("escaped-"), escape_char="-") if len(value) < 63 else name
            assert decoded == name
            assert value == label_value(name)

    make()
    assert len(pods) >= CASES
    for start in range(0, len(pods), AT_ONCE):
        assert not refusal(kubectl, OPEN, *jobs[start : start + AT_ONCE])
        assert not refusal(kubectl, OPEN, *pods[start : start + AT_ONCE])


def without_server_fields(job: dict[str, Any]) -> dict[str, Any]:
    """The PhJob as a user would submit it."""
    return {"metadata": {"name": job["metadata"]["name"]}, "spec": job["spec"]}

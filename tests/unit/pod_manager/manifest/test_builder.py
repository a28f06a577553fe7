from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.facts import a_group
from tests.fakes.pod_annotations import ASKED_FOR
from tests.fakes.pod_cases import CASES, a_dataset, a_phjob, an_image, an_instance_type

from phjob_pod_manager.manifest.builder import (
    POD_DEADLINE_MARGIN_SECONDS,
    PodInputs,
    UnbuildableError,
    build,
)
from phjob_pod_manager.manifest.entrypoint import literal
from phjob_pod_manager.manifest.process_one import RUN_COMMAND
from phjob_runtime.settings import JobSubmission

PODS = Path(__file__).parent / "pods"
INPUTS = PodInputs(an_image(), an_instance_type())


@pytest.mark.parametrize("name", CASES)
def test_the_whole_pod_equals_the_recorded_one(name: str) -> None:
    """Each line of the recorded pods was written by hand from spec.md, P1 to P12.

    The shell scripts that end every entrypoint are left out of them.
    """
    pod = build(*CASES[name])
    container = pod["spec"]["containers"][0]
    container["command"] = [part.replace(literal(RUN_COMMAND), "...") for part in container["command"]]
    assert pod == yaml.safe_load((PODS / f"{name}.yaml").read_text())


def test_a_dollar_in_a_name_reaches_the_command_as_it_is() -> None:
    """Kubernetes would expand $(NAME) in a variable's value."""
    inputs = PodInputs(an_image(), an_instance_type())
    (container,) = build(a_phjob(userName="$(PATH)"), inputs, JobSubmission())["spec"]["containers"]
    assert {"name": "PRIMEHUB_USER", "value": "$$(PATH)"} in container["env"]


def test_a_users_annotations_do_not_reach_the_pod() -> None:
    """Only those that the settings permit, by default the local stack's (spec.md, P2)."""
    job = a_phjob(annotations={**ASKED_FOR, "dev.primehub.io/run-for": "1s", "dev.primehub.io": "x"})
    found = build(job, INPUTS, JobSubmission())["metadata"]["annotations"]
    assert found.keys() == {
        *("dev.primehub.io/run-for", "primehub.io/usage", "primehub.io/fence", "primehub.io/attempt")
    }
    assert (found["primehub.io/fence"], found["primehub.io/attempt"]) == ("s#1", "1")


def test_an_operator_may_permit_more_annotations_and_sets_his_own() -> None:
    """The operator's own win. The copy of `kubectl apply` is never copied."""
    never = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "primehub.io/gpu-resource": "cpu"}
    job = a_phjob(annotations={**ASKED_FOR, **never})
    settings = JobSubmission(copyAnnotations=("*",), podAnnotations={"prometheus.io/port": "9090"})
    found = build(job, INPUTS, settings)["metadata"]["annotations"]
    assert found.keys() == ASKED_FOR.keys()
    assert (found["prometheus.io/port"], found["primehub.io/fence"]) == ("9090", "s#1")


@pytest.mark.parametrize(
    ("own", "of_group", "of_setting", "expected"),
    [
        (60, 120, 180, 60),
        (None, 120, 180, 120),
        (None, None, 180, 180),
        (2**31 - 1, None, 180, 2**31 - 1 - POD_DEADLINE_MARGIN_SECONDS),
    ],
)
def test_the_pod_has_a_deadline_of_its_own_after_the_jobs(
    own: int | None, of_group: int | None, of_setting: int, expected: int
) -> None:
    """Its node ends it if PhJob cannot (spec.md, P13). A greater number would make the pod invalid."""
    group = a_group(default_active_deadline_seconds=of_group)
    inputs = PodInputs(an_image(), an_instance_type(), own_group=group)
    settings = JobSubmission(defaultActiveDeadlineSeconds=of_setting)
    fields: dict[str, Any] = {"activeDeadlineSeconds": own} if own else {}
    job = a_phjob(**fields)
    pod = build(job, inputs, settings)["spec"]
    assert pod["activeDeadlineSeconds"] == expected + POD_DEADLINE_MARGIN_SECONDS


@pytest.mark.parametrize(("of_group", "of_setting"), [(0, 180), (None, 0)])
def test_a_job_without_a_deadline_has_a_pod_without_one(of_group: int | None, of_setting: int) -> None:
    """0 means unlimited (spec.md, L8)."""
    inputs = PodInputs(
        an_image(), an_instance_type(), own_group=a_group(default_active_deadline_seconds=of_group)
    )
    pod = build(a_phjob(), inputs, JobSubmission(defaultActiveDeadlineSeconds=of_setting))["spec"]
    assert "activeDeadlineSeconds" not in pod


def test_each_variable_has_one_value() -> None:
    """A dataset overrides neither PhJob's own variables nor those of the settings (spec.md, P5)."""
    datasets = [a_dataset("primehub", type="env", variables={"user": "root", "url": "x", "other": "y"})]
    settings = JobSubmission(extraEnv=[{"name": "PRIMEHUB_URL", "value": "https://hub"}])
    inputs = PodInputs(an_image(), an_instance_type(), datasets=datasets)
    (container,) = build(a_phjob(), inputs, settings)["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (values["PRIMEHUB_USER"], values["PRIMEHUB_URL"]) == ("jackpan", "https://hub")
    assert "PRIMEHUB_OTHER" in values


def test_the_resource_of_limits_gpu_selects_the_image_for_gpus_and_is_named_in_the_pod() -> None:
    """The pod counts as it does, whatever the name is (spec.md, A9, S3)."""
    job = a_phjob()
    job["status"] |= {"resources": {"cpu": "1", "example.com/x": "1"}, "gpuResource": "example.com/x"}
    pod = build(job, PodInputs(an_image(urlForGpu="for-gpu"), an_instance_type()), JobSubmission())
    assert pod["spec"]["containers"][0]["image"] == "for-gpu"
    assert pod["metadata"]["annotations"]["primehub.io/gpu-resource"] == "example.com/x"
    del job["status"]["gpuResource"]
    inputs = PodInputs(an_image(urlForGpu="for-gpu"), an_instance_type())
    pod = build(job, inputs, JobSubmission())
    assert pod["spec"]["containers"][0]["image"] == "jupyter/base-notebook:1"
    pod = build(job, inputs, JobSubmission(gpuResourceNames=["example.com/*"]))
    assert pod["spec"]["containers"][0]["image"] == "for-gpu"


@pytest.mark.parametrize(
    ("of_type", "of_setting", "expected"),
    [("nvidia", "gvisor", "nvidia"), ("", "gvisor", "gvisor"), ("nvidia", "", "nvidia"), ("", "", None)],
)
def test_the_runtime_class_of_the_instance_type_wins(
    of_type: str, of_setting: str, expected: str | None
) -> None:
    """GPUs may need one that other jobs must not have (spec.md, P11)."""
    inputs = PodInputs(an_image(), an_instance_type(runtimeClassName=of_type))
    pod = build(a_phjob(), inputs, JobSubmission(runtimeClassName=of_setting))
    assert pod["spec"].get("runtimeClassName") == expected


def test_no_value_of_a_dataset_is_in_the_pod() -> None:
    """Whoever may read pods must not read them (spec.md, P8)."""
    datasets = [a_dataset("my-db", type="env", variables={"password": "hunter2", "a.b": "hunter2"})]
    pod = build(a_phjob(), PodInputs(an_image(), an_instance_type(), datasets=datasets), JobSubmission())
    assert "hunter2" not in str(pod)
    assert "MY-DB_PASSWORD" in str(pod)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            PodInputs({"metadata": {"name": "empty"}, "spec": {}}, an_instance_type()),
            "image 'empty' has no url",
        ),
        (
            PodInputs(an_image(), an_instance_type(**{"requests.cpu": "lots"})),
            "instance type 'cpu-tiny' is unusable: requests: 'lots' is not a quantity",
        ),
    ],
)
def test_what_can_not_be_built_is_named(inputs: PodInputs, text: str) -> None:
    """The job fails with PodCreationFailed and this text."""
    with pytest.raises(UnbuildableError, match=text):
        build(a_phjob(), inputs, JobSubmission())


@pytest.mark.parametrize(("setting", "policy"), [(True, "FallbackToLogsOnError"), (False, "File")])
def test_the_setting_decides_whether_a_status_quotes_the_log(setting: bool, policy: str) -> None:  # noqa: FBT001
    """Without it, no line of a log leaves the node (spec.md, L4)."""
    job, inputs, settings = CASES["minimal"]
    settings = settings.model_copy(update={"termination_messages": setting})
    (container,) = build(job, inputs, settings)["spec"]["containers"]
    assert container["terminationMessagePolicy"] == policy

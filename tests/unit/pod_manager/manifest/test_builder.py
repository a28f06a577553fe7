from pathlib import Path

import pytest
import yaml
from tests.fakes.pod_cases import CASES, a_phjob, an_image, an_instance_type

from phjob_pod_manager.manifest.builder import PodInputs, UnbuildableError, build
from phjob_runtime.settings import JobSubmission

PODS = Path(__file__).parent / "pods"


@pytest.mark.parametrize("name", CASES)
def test_the_whole_pod_equals_the_recorded_one(name: str) -> None:
    """Each line of the recorded pods was written by hand from spec.md, P1 to P12."""
    assert build(*CASES[name]) == yaml.safe_load((PODS / f"{name}.yaml").read_text())


def test_a_dollar_in_a_name_reaches_the_command_as_it_is() -> None:
    """Kubernetes would expand $(NAME) in a variable's value."""
    inputs = PodInputs(an_image(), an_instance_type())
    (container,) = build(a_phjob(userName="$(PATH)"), inputs, JobSubmission())["spec"]["containers"]
    assert {"name": "PRIMEHUB_USER", "value": "$$(PATH)"} in container["env"]


def test_a_dataset_cannot_override_phjobs_own_variables() -> None:
    """A dataset `primehub` with a key `user` has the same name as one of them."""
    job, inputs, settings = CASES["full"]
    (container,) = build(job, inputs, settings)["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    assert names.index("PRIMEHUB_USER") > names.index("KEYS_API_KEY")


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

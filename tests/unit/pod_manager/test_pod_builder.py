from pathlib import Path

import pytest
import yaml
from tests.unit.pod_manager.scenes import SCENES, a_phjob, an_image, an_instance_type

from pod_manager.pod_builder import Ingredients, UnbuildableError, build
from shared.settings import JobSubmission

PODS = Path(__file__).parent / "pods"


@pytest.mark.parametrize("name", SCENES)
def test_the_whole_pod_is_the_one_on_record(name: str) -> None:
    """Each line of the record was written down from contract.md, The pod."""
    assert build(*SCENES[name]) == yaml.safe_load((PODS / f"{name}.yaml").read_text())


def test_a_dollar_in_a_name_reaches_the_command_as_it_is() -> None:
    """Kubernetes would expand $(NAME) in a variable's value."""
    ingredients = Ingredients(an_image(), an_instance_type())
    (container,) = build(a_phjob(userName="$(PATH)"), ingredients, JobSubmission())["spec"]["containers"]
    assert {"name": "PRIMEHUB_USER", "value": "$$(PATH)"} in container["env"]


def test_a_dataset_can_not_take_the_place_of_our_own_variables() -> None:
    """One named `primehub` with a key `user` would."""
    job, ingredients, settings = SCENES["full"]
    (container,) = build(job, ingredients, settings)["spec"]["containers"]
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    assert names.index("PRIMEHUB_USER") > names.index("KEYS_API_KEY")


@pytest.mark.parametrize(
    ("ingredients", "text"),
    [
        (
            Ingredients({"metadata": {"name": "empty"}, "spec": {}}, an_instance_type()),
            "image 'empty' has no url",
        ),
        (
            Ingredients(an_image(), an_instance_type(**{"requests.cpu": "lots"})),
            "instance type 'cpu-tiny' is unusable: requests: 'lots' is not a quantity",
        ),
    ],
)
def test_what_can_not_be_built_is_named(ingredients: Ingredients, text: str) -> None:
    """The job fails with PodCreationFailed and this text."""
    with pytest.raises(UnbuildableError, match=text):
        build(a_phjob(), ingredients, JobSubmission())

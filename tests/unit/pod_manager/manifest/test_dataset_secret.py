import base64
from typing import Any

import pytest

from phjob_pod_manager.manifest.dataset_secret import secret, secret_name, variables


def a_dataset(name: str = "my-db", *, type: str = "env", **values: Any) -> dict[str, Any]:  # noqa: A002 - the field
    return {"metadata": {"name": name, "uid": "uid-1"}, "spec": {"type": type, "variables": values}}


def test_the_secret_has_each_variable_once_and_goes_with_its_dataset() -> None:
    """Both names of a variable refer to the same key (spec.md, P8)."""
    made = secret(a_dataset(password="a\nb\n", port=3306, tls=True))
    assert made is not None
    values = {key: base64.b64decode(value).decode() for key, value in made["data"].items()}
    assert values == {"MY-DB_PASSWORD": "a\nb\n", "MY-DB_PORT": "3306", "MY-DB_TLS": "true"}
    assert made["metadata"]["name"] == "phjob-dataset-my-db"
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Dataset", "my-db", "uid-1")
    assert made["type"] == "primehub.io/dataset"


def test_text_of_any_language_is_kept() -> None:
    """A Secret has bytes."""
    made = secret(a_dataset(greeting="漢 🎉"))
    assert made is not None
    assert base64.b64decode(made["data"]["MY-DB_GREETING"]).decode() == "漢 🎉"


@pytest.mark.parametrize(
    "dataset",
    [a_dataset(), a_dataset(type="pv", password="x"), a_dataset("n" * 240, password="x")],
    ids=["without variables", "another type", "a name that is too long"],
)
def test_a_dataset_without_variables_for_a_pod_needs_no_secret(dataset: dict[str, Any]) -> None:
    """No Secret is written for it."""
    assert secret(dataset) is None


def test_names_that_no_variable_can_have_are_reported() -> None:
    """A Secret's key has at most 253 characters. `__typename` is PrimeHub's console's."""
    values, invalid = variables(a_dataset("3d", key="v", __typename="x"))
    assert (values, invalid) == ({}, ["3D_KEY"])
    values, invalid = variables(a_dataset(**{"k" * 300: "v", "a b": "v", "good": "v"}))
    assert [*values] == ["MY-DB_GOOD"]
    assert invalid == [f"MY-DB_{'K' * 300}", "MY-DB_A B"]


def test_a_name_that_is_too_long_for_a_secret_has_none() -> None:
    """The API server would reject the Secret."""
    assert secret_name("n" * 239) == f"phjob-dataset-{'n' * 239}"
    assert secret_name("n" * 240) is None

"""The check of the CRDs in a cluster: PhJob's own pass, and others are named with the remedy."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from phjob_core.crds import REMEDY, REQUIREMENTS, crd_name, problem

CRDS = Path(__file__).parents[3] / "k8s" / "chart" / "crds"
OURS = {
    crd["spec"]["names"]["plural"]: crd for crd in (yaml.safe_load(f.read_text()) for f in CRDS.iterdir())
}
Crd = dict[str, Any]


def version_of(crd: Crd) -> dict[str, Any]:
    """Return the only version of a CRD."""
    (version,) = crd["spec"]["versions"]
    found: dict[str, Any] = version
    return found


def status_of(crd: Crd) -> dict[str, Any]:
    """Return the schema of the status."""
    status: dict[str, Any] = version_of(crd)["schema"]["openAPIV3Schema"]["properties"]["status"]
    return status


def test_every_definition_of_the_chart_is_checked_and_passes() -> None:
    """`helm install` and `kubectl apply` make a cluster with which PhJob works."""
    assert OURS.keys() == REQUIREMENTS.keys()
    for plural, crd in OURS.items():
        assert crd["metadata"]["name"] == crd_name(plural)
        assert problem(plural, crd) == ""


@pytest.mark.parametrize("plural", ["phjobs", "phgroups"])
def test_every_field_of_a_status_that_phjob_writes_is_required(plural: str) -> None:
    """The API server of a cluster with an older CRD would drop a newer field without a word (spec.md, E8)."""
    assert {*REQUIREMENTS[plural].status} == status_of(OURS[plural])["properties"].keys()


def test_no_definition_of_the_chart_preserves_unknown_fields() -> None:
    """PrimeHub 3 created its own with true. Without false, the API server refuses PhJob's over them."""
    assert all(crd["spec"]["preserveUnknownFields"] is False for crd in OURS.values())


def maps(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schema of the values of each map."""
    children = [*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])]
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        yield values
        children.append(values)
    for child in children:
        yield from maps(child)


def test_no_map_has_a_rule_about_values_that_are_numbers_or_strings() -> None:
    """Kubernetes 1.31 takes each of them for 3 MiB long, and refuses the CRD (`make oldest`)."""
    found = [values for crd in OURS.values() for values in maps(version_of(crd)["schema"]["openAPIV3Schema"])]
    assert found
    for values in found:
        is_mixed = "x-kubernetes-int-or-string" in values
        assert not (is_mixed and "x-kubernetes-validations" in values)


def test_a_missing_definition_is_named_with_the_remedy() -> None:
    """The API server would only answer 404."""
    assert problem("images", None) == f"the cluster has no custom resource images.primehub.io: {REMEDY}"


def without(path: str) -> Callable[[Crd], None]:
    """Return a change that removes a part of a version."""
    return lambda crd: version_of(crd).pop(path)


def set_default(name: str, value: object) -> Callable[[Crd], None]:
    """Return a change of the default of a field of the status."""
    return lambda crd: status_of(crd)["properties"][name].update(default=value)


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (lambda crd: version_of(crd).update(name="v1beta1"), "the version v1alpha1"),
        (lambda crd: version_of(crd).update(served=False), "the version v1alpha1"),
        (lambda crd: crd["spec"].update(scope="Cluster"), "the scope Namespaced"),
        (without("selectableFields"), "the selectable field .status.phase"),
        (without("subresources"), "the subresource status"),
        (without("schema"), "the field status.phase"),
        (lambda crd: status_of(crd)["properties"].pop("podUID"), "the field status.podUID"),
        (lambda crd: status_of(crd)["properties"].pop("exitCode"), "the field status.exitCode"),
        (lambda crd: status_of(crd).pop("default"), "the default of status"),
        (set_default("reclaimed", None), "the default of status.reclaimed"),
        (set_default("phase", "Running"), "the default of status.phase"),
    ],
)
def test_a_definition_of_jobs_that_is_not_phjobs_is_named_with_what_it_lacks(
    change: Callable[[Crd], object], lacks: str
) -> None:
    """PrimeHub's, or that of an older release."""
    crd = copy.deepcopy(OURS["phjobs"])
    change(crd)
    assert problem("phjobs", crd) == (
        "the custom resource phjobs.primehub.io in the cluster is not PhJob's, or of another release: "
        f"it lacks {lacks}; {REMEDY}"
    )


@pytest.mark.parametrize("plural", ["instancetypes", "images", "datasets"])
def test_primehubs_own_definition_of_a_kind_that_phjob_only_reads_will_do(plural: str) -> None:
    """PrimeHub 3's has no schema at all for some of them."""
    names = {"plural": plural, "kind": "Any"}
    version = {"name": "v1alpha1", "served": True, "storage": True}
    spec = {"scope": "Namespaced", "names": names, "versions": [version], "preserveUnknownFields": True}
    assert problem(plural, {"spec": spec}) == ""
    assert "it lacks the subresource status" in problem("phgroups", {"spec": spec})

"""The check that the CRDs of a cluster are PhJob's (spec.md, E8). Pure.

PrimeHub has CRDs of the same names, which its installer applies again at each upgrade. `helm install`
keeps those that exist. Without this check, the API server would only say that it does not know a selector,
and drop what PhJob writes into a status.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from phjob_core.api import GROUP, VERSION, Object
from phjob_core.projection import JOB_STATUS_FIELDS
from phjob_core.resource import Resource

CRDS = Resource("customresourcedefinitions", "apiextensions.k8s.io", namespaced=False)
REMEDY = "run kubectl apply --server-side --force-conflicts -f k8s/chart/crds of this release"


@dataclass(frozen=True)
class _Requirements:
    """The parts of a CRD without which PhJob does not work."""

    selectable: tuple[str, ...] = ()
    """The paths of fields that a field selector may name."""
    status: tuple[str, ...] = ()
    """The fields of the status. The API server drops the others."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """The default of each field of the status that a JSON Patch tests before anybody has written it."""


_NOTHING = _Requirements()
"""For a kind that PhJob only reads. PrimeHub's own CRD will do."""
REQUIREMENTS: Mapping[str, _Requirements] = {
    "phjobs": _Requirements(
        selectable=(".status.phase", ".status.reclaimed", ".spec.groupName"),
        status=JOB_STATUS_FIELDS,
        defaults={"phase": "Pending", "fence": "", "reclaimed": False},
    ),
    "phgroups": _Requirements(
        status=(
            *("pending", "preparing", "running", "used", "limit", "defaultLimits", "gpuResourceNames"),
            *("waitingPods", "notebooks"),
            *("head", "message", "fence"),
        )
    ),
    "instancetypes": _NOTHING,
    "images": _NOTHING,
    "datasets": _NOTHING,
}
"""The requirements of each CRD, by the plural of its kind."""


def crd_name(plural: str) -> str:
    """Return the name of the CRD of a kind."""
    return f"{plural}.{GROUP}"


def problem(plural: str, crd: Object | None) -> str:
    """Return why PhJob cannot work with the CRD of a kind, with the remedy; empty if it can.

    `crd` is the CRD in the cluster; None if there is none.
    """
    name = crd_name(plural)
    if crd is None:
        return f"the cluster has no custom resource {name}: {REMEDY}"
    lacks = next(_lacks(crd, REQUIREMENTS[plural]), "")
    return (
        f"the custom resource {name} in the cluster is not PhJob's, or of another release: it lacks {lacks}; "
        f"{REMEDY}"
        if lacks
        else ""
    )


def _lacks(crd: Object, required: _Requirements) -> Iterator[str]:
    """Yield each part that the CRD lacks."""
    spec = crd["spec"]
    versions = {version["name"]: version for version in spec["versions"] if version["served"]}
    version: Object = versions.get(VERSION, {})
    if not version:
        yield f"the version {VERSION}"
    if spec["scope"] != "Namespaced":
        yield "the scope Namespaced"
    selectable = {entry["jsonPath"] for entry in version.get("selectableFields") or ()}
    yield from (f"the selectable field {path}" for path in required.selectable if path not in selectable)
    if not required.status:
        return
    if "status" not in (version.get("subresources") or {}):
        yield "the subresource status"
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    status = (schema.get("properties") or {}).get("status") or {}
    properties = status.get("properties") or {}
    yield from (f"the field status.{name}" for name in required.status if name not in properties)
    if required.defaults and "default" not in status:
        yield "the default of status"
    yield from (
        f"the default of status.{name}"
        for name, default in required.defaults.items()
        if (properties.get(name) or {}).get("default") != default
    )

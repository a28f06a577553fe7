"""The status of an object as kstatus computes it for a custom resource, for Flux and Helm.

Source: cli-utils, pkg/kstatus/status/generic.go and status.go.
"""

from collections.abc import Mapping
from typing import Any


def kstatus(item: Mapping[str, Any]) -> str:
    """Return `Terminating`, `InProgress`, `Failed` or `Current`."""
    metadata, status = item["metadata"], item.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata["generation"]:
        return "InProgress"
    for condition in status.get("conditions") or ():
        if condition["status"] == "True" and condition["type"] == "Reconciling":
            return "InProgress"
        if condition["status"] == "True" and condition["type"] == "Stalled":
            return "Failed"
    return "Current"

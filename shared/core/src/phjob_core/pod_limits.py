"""The limits of a whole pod, as Kubernetes counts them (spec.md, S4). Pure.

It is the sum that kube-scheduler and ResourceQuota make of a pod: `PodLimits` of
k8s.io/component-helpers/resource/helpers.go, with the states of a resize (`UseStatusResources`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from phjob_core.quantities import CPU, MEMORY, Amounts, QuantityError, parse_all, render

RESOURCE_CLAIMS = "count/resourceclaims.resource.k8s.io"
"""The number of a pod's claims of dynamic resource allocation, under the name that ResourceQuota has for it.

A pod does not say which devices a claim stands for, nor how many.
"""
_HUGE_PAGES = "hugepages-"


def pod_limits(spec: Mapping[str, Any], status: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Return the limits of a pod with this `spec` and `status`.

    1. For each resource, they are the larger of two sums: containers and sidecars together, and the largest
       init container with the sidecars started before it.
    2. Limits of the pod itself replace these sums.
    3. The overhead of its RuntimeClass is added to each limit above 0.
    4. The number of its resource claims is a limit of its own, `RESOURCE_CLAIMS`.

    While a resize is in progress, the larger of the old and the new limit counts. If the node can never carry
    it out, only the old one counts. A status that no kubelet writes counts as absent.

    Raises:
        QuantityError: a limit is not a quantity. A real API server never stores such a limit.

    """
    try:
        return _pod_limits(spec, status or {})
    except (AttributeError, TypeError, QuantityError):
        return _pod_limits(spec, {})


def _pod_limits(spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, int]:
    is_infeasible = _is_resize_infeasible(status)
    limits = _of_containers(spec, status, is_infeasible=is_infeasible)
    overhead = parse_all(spec.get("overhead"))
    limits |= _of_pod(spec, status, overhead, is_infeasible=is_infeasible)
    claims = len(spec.get("resourceClaims") or ())
    return {
        **{name: amount + overhead.get(name, 0) if amount else 0 for name, amount in limits.items()},
        **({RESOURCE_CLAIMS: claims} if claims else {}),
    }


def total(parts: Iterable[Amounts]) -> dict[str, int]:
    """Return the sum of the parts."""
    amounts: dict[str, int] = {}
    for part in parts:
        for resource, amount in part.items():
            amounts[resource] = amounts.get(resource, 0) + amount
    return amounts


def larger(one: Amounts, other: Amounts) -> dict[str, int]:
    """Return the larger amount of each resource."""
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in (*one, *other)}


def excess(needed: Amounts, available: Amounts) -> dict[str, int]:
    """Return by how much each resource needs more than there is; empty if there is enough of all."""
    rest = {name: amount - available.get(name, 0) for name, amount in needed.items()}
    return {name: amount for name, amount in rest.items() if amount > 0}


def describe_overhead(overhead: Amounts) -> str:
    """Return what the cluster adds to a job's pod, for its user (spec.md, Q13)."""
    added = ", ".join(f"{name} {render(name, amount)}" for name, amount in overhead.items())
    return f"the cluster adds {added} to the pod (overhead of its RuntimeClass, or an injected container)"


def _of_containers(
    spec: Mapping[str, Any], status: Mapping[str, Any], *, is_infeasible: bool
) -> dict[str, int]:
    """Return the limits of all containers together."""
    reported = {
        container.get("name"): container.get("resources")
        for field in ("containerStatuses", "initContainerStatuses")
        for container in status.get(field) or ()
    }

    def effective(container: Mapping[str, Any]) -> dict[str, int]:
        resources = container.get("resources")
        wanted, actual = _limits(resources), reported.get(container.get("name"))
        if actual is None or actual == resources:  # The usual case, in which there is nothing to compare.
            return wanted
        return _limits(actual) if is_infeasible else larger(wanted, _limits(actual))

    together = total(effective(container) for container in spec.get("containers") or ())
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = total((sidecars, effective(container)))
            peak = larger(peak, sidecars)
        else:  # It cannot be resized.
            peak = larger(peak, total((sidecars, _limits(container.get("resources")))))
    return larger(total((together, sidecars)), peak)


def _of_pod(
    spec: Mapping[str, Any], status: Mapping[str, Any], overhead: Amounts, *, is_infeasible: bool
) -> dict[str, int]:
    """Return the limits of the pod itself, for the resources that can have such a limit.

    What the kubelet reports for a pod includes the overhead, which is added later.
    """
    limits = _limits(spec.get("resources"))
    if limits and status.get("resources"):
        reported = _limits(status["resources"])
        actual = {name: max(reported[name] - overhead.get(name, 0), 0) for name in limits if name in reported}
        limits = actual if is_infeasible else larger(limits, actual)
    return {n: amount for n, amount in limits.items() if n in (CPU, MEMORY) or n.startswith(_HUGE_PAGES)}


def _is_resize_infeasible(status: Mapping[str, Any]) -> bool:
    """Return whether the node can never carry out the resize that the pod waits for."""
    conditions = status.get("conditions") or ()
    reasons = (c.get("reason") for c in conditions if c.get("type") == "PodResizePending")
    return next(reasons, "") == "Infeasible"


def _limits(resources: Mapping[str, Any] | None) -> dict[str, int]:
    return parse_all((resources or {}).get("limits"))

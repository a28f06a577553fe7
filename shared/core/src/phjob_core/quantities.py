"""Kubernetes quantities as exact whole numbers, and the arithmetic of quotas on them.

Rules: spec.md, S1 to S4.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from phjob_core.errors import PermanentError

Amounts = Mapping[str, int]
"""A whole number for each resource: `cpu` in thousandths of a core, memory in bytes, others in units."""

CPU = "cpu"
MEMORY = "memory"
EPHEMERAL_STORAGE = "ephemeral-storage"
GPU = "gpu"
NVIDIA_GPU = "nvidia.com/gpu"

MAX_QUANTITY = 2**63 - 1
"""Kubernetes' limit, in units."""
_MAX_QUANTITY_CHARS = 64

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(m|u|n|k|Ki|[EPTGM]i?|[eE][+-]?\d+)?$", re.ASCII)
_MAX_EXPONENT = 200
"""More than the digits of a quantity, so that a greater exponent changes no result."""
_SCALE = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


class QuantityError(PermanentError):
    """The text is not a usable quantity. The message names it."""


def parse(resource: str, quantity: Any) -> int:
    """Return a Kubernetes quantity as a whole number, rounded up.

    Raises:
        QuantityError: it is not a quantity, it is negative, or it is above `MAX_QUANTITY`.

    """
    text = str(quantity).strip()
    is_text = not isinstance(quantity, bool) and len(text) <= _MAX_QUANTITY_CHARS
    match = _QUANTITY.match(text) if is_text else None
    if match is None:
        msg = f"{quantity!r:.{_MAX_QUANTITY_CHARS}} is not a quantity (write for example 2, 500m or 4Gi)"
        raise QuantityError(msg)
    number, suffix = match.group(1), match.group(2) or ""
    if suffix[:1] in ("e", "E") and suffix not in _SCALE:
        # Without the limit, 1e999999999 as a whole number would exhaust the memory.
        exponent = max(-_MAX_EXPONENT, min(int(suffix[1:]), _MAX_EXPONENT))
        value = Decimal(number).scaleb(exponent)
    else:
        value = Decimal(number) * _SCALE[suffix]
    if value < 0:
        msg = f"{quantity!r} is negative"
        raise QuantityError(msg)
    if value > MAX_QUANTITY:
        msg = f"{quantity!r} is too large (at most {MAX_QUANTITY})"
        raise QuantityError(msg)
    if resource == CPU:
        value *= 1000
    return int(value.to_integral_value(ROUND_CEILING))


def parse_primehub(resource: str, quantity: Any) -> int:
    """Return a quantity of an InstanceType or a quota as a whole number: memory `4G` means `4Gi`.

    PrimeHub's administrators write it so (spec.md, S2).

    Raises:
        QuantityError: as `parse`.

    """
    text = str(quantity).strip()
    if resource == MEMORY and text[-1:] in tuple("kKMGTPE"):
        text = text[:-1] + text[-1].upper() + "i"
    return parse(resource, text if not isinstance(quantity, bool) else quantity)


def render(resource: str, amount: int) -> str:
    """Return an amount as a quantity, for manifests, status and messages: `500m`, `2`, `4Gi`."""
    if resource == CPU:
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if resource in (MEMORY, EPHEMERAL_STORAGE) and amount:
        for suffix in ("Ti", "Gi", "Mi", "Ki"):
            scale = int(_SCALE[suffix])
            if amount % scale == 0:
                return f"{amount // scale}{suffix}"
    return str(amount)


def render_all(amounts: Amounts) -> dict[str, str]:
    """Return every amount as a quantity."""
    return {resource: render(resource, amount) for resource, amount in amounts.items()}


def base_units(resource: str, amount: int) -> float:
    """Return an amount in the base units of Prometheus: cores, bytes, devices."""
    return amount / 1000 if resource == CPU else float(amount)


def is_gpu(resource: str) -> bool:
    """Return whether a pod's resource counts as `gpu` in a quota (spec.md, S3).

    These do: `nvidia.com/gpu`, other vendors' `.../gpu`, Intel's `gpu.intel.com/...` and MIG slices.
    """
    return resource.endswith("/gpu") or resource.startswith(("nvidia.com/mig-", "gpu."))


def quota_charge(limits: Amounts) -> dict[str, int]:
    """Return what a pod with these limits counts against a quota: each limit, and every GPU also as `gpu`."""
    charge = {resource: amount for resource, amount in limits.items() if amount}
    gpus = sum(amount for resource, amount in charge.items() if is_gpu(resource))
    if gpus:
        charge[GPU] = charge.get(GPU, 0) + gpus
    return charge


def pod_limits(spec: Mapping[str, Any]) -> dict[str, int]:
    """Return the limits of a whole pod, as kube-scheduler computes them (spec.md, S4).

    For each resource, they are the larger of two sums: containers and sidecars together, and the largest init
    container with the sidecars started before it. Source: Kubernetes, Sidecar containers, "Resource sharing".

    Raises:
        QuantityError: a limit is not a quantity. A real API server never stores such a limit.

    """
    together = _total(_container_limits(c) for c in spec.get("containers") or ())
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        limits = _container_limits(container)
        if container.get("restartPolicy") == "Always":
            sidecars = _total((sidecars, limits))
            peak = _largest(peak, sidecars)
        else:
            peak = _largest(peak, _total((sidecars, limits)))
    return _largest(_total((together, sidecars)), peak)


def _container_limits(container: Mapping[str, Any]) -> dict[str, int]:
    limits = (container.get("resources") or {}).get("limits") or {}
    return {resource: parse(resource, quantity) for resource, quantity in limits.items()}


def _total(parts: Iterable[Amounts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for resource, amount in part.items():
            total[resource] = total.get(resource, 0) + amount
    return total


def _largest(one: Amounts, other: Amounts) -> dict[str, int]:
    return {key: max(one.get(key, 0), other.get(key, 0)) for key in (*one, *other)}

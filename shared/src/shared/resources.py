"""Kubernetes quantities as exact whole numbers, and the arithmetic of quotas on them.

`Amounts` maps a resource to a whole number: `cpu` in thousandths of a core, every other resource
in units (memory in bytes, GPUs in devices). It reads quantities and adds them up; who may use how
much is the scheduler's business.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from shared.errors import PermanentError

Amounts = Mapping[str, int]

CPU = "cpu"
MEMORY = "memory"
GPU = "gpu"
NVIDIA_GPU = "nvidia.com/gpu"

LARGEST = 2**63 - 1
"""The largest amount that Kubernetes counts with, in units."""
_LONGEST = 64
"""Characters of a quantity."""

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(m|u|n|k|Ki|[EPTGM]i?|[eE][+-]?\d+)?$", re.ASCII)
_LARGEST_EXPONENT = 200
"""More than the digits that a quantity may have: 0.00...1 with so many places is still below `LARGEST`."""
_SCALE = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix + "i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


class QuantityError(PermanentError):
    """Not a Kubernetes quantity; the text names what was read."""


def parse(resource: str, quantity: Any) -> int:
    """The whole number behind a quantity as Kubernetes writes it, rounded up.

    Raises:
        QuantityError: it is no quantity, a negative one, or larger than Kubernetes can count.

    """
    text = str(quantity).strip()
    match = _QUANTITY.match(text) if not isinstance(quantity, bool) and len(text) <= _LONGEST else None
    if match is None:
        msg = f"{quantity!r:.{_LONGEST}} is not a quantity (write for example 2, 500m or 4Gi)"
        raise QuantityError(msg)
    number, suffix = match.group(1), match.group(2) or ""
    if suffix[:1] in ("e", "E") and suffix not in _SCALE:
        # As a whole number 1e999999999 would not fit into this machine.
        exponent = max(-_LARGEST_EXPONENT, min(int(suffix[1:]), _LARGEST_EXPONENT))
        value = Decimal(number).scaleb(exponent)
    else:
        value = Decimal(number) * _SCALE[suffix]
    if value < 0:
        msg = f"{quantity!r} is negative"
        raise QuantityError(msg)
    if value > LARGEST:
        msg = f"{quantity!r} is too large (at most {LARGEST})"
        raise QuantityError(msg)
    if resource == CPU:
        value *= 1000
    return int(value.to_integral_value(ROUND_CEILING))


def parse_primehub(resource: str, quantity: Any) -> int:
    """The same for what a PrimeHub administrator writes: memory `4G` means `4Gi`.

    Source: contract.md, Custom resources, InstanceType.
    """
    text = str(quantity).strip()
    if resource == MEMORY and text[-1:] in tuple("kKMGTPE"):
        text = text[:-1] + text[-1].upper() + "i"
    return parse(resource, text if not isinstance(quantity, bool) else quantity)


def render(resource: str, amount: int) -> str:
    """An amount as a quantity for manifests, status and messages: `500m`, `2`, `4Gi`."""
    if resource == CPU:
        return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"
    if resource == MEMORY and amount:
        for suffix in ("Ti", "Gi", "Mi", "Ki"):
            scale = int(_SCALE[suffix])
            if amount % scale == 0:
                return f"{amount // scale}{suffix}"
    return str(amount)


def rendered(amounts: Amounts) -> dict[str, str]:
    """Amounts as quantities."""
    return {resource: render(resource, amount) for resource, amount in amounts.items()}


def base_units(resource: str, amount: int) -> float:
    """An amount for metrics, in Prometheus' base units: cores, bytes, devices."""
    return amount / 1000 if resource == CPU else float(amount)


def is_gpu(resource: str) -> bool:
    """Whether the quota key `gpu` counts this resource of a pod.

    `nvidia.com/gpu`, any other vendor's `.../gpu`, Intel's `gpu.intel.com/...`, Nvidia's MIG slices.
    """
    return resource.endswith("/gpu") or resource.startswith(("nvidia.com/mig-", "gpu."))


def charge(limits: Amounts) -> dict[str, int]:
    """What a pod's limits count for in a quota: themselves, and every GPU also as `gpu`."""
    charged = {resource: amount for resource, amount in limits.items() if amount}
    gpus = sum(amount for resource, amount in charged.items() if is_gpu(resource))
    if gpus:
        charged[GPU] = charged.get(GPU, 0) + gpus
    return charged


def pod_limits(spec: Mapping[str, Any]) -> dict[str, int]:
    """The limits of a whole pod, as kube-scheduler adds up its containers.

    The larger of what runs together (containers and sidecars) and of each init container with the
    sidecars started before it. Source: Kubernetes, Sidecar containers, "Resource sharing".

    Raises:
        QuantityError: a limit is no quantity; a real API server never holds one.

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

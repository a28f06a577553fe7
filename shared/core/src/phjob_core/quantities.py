"""Kubernetes quantities as exact whole numbers, and the arithmetic of quotas on them.

Rules: spec.md, S1 and S2.
"""

import re
from collections.abc import Mapping
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


def parse_all(quantities: Mapping[str, Any] | None) -> dict[str, int]:
    """Return all quantities by resource as whole numbers; none for None.

    Raises:
        QuantityError: as `parse`.

    """
    return {resource: parse(resource, quantity) for resource, quantity in (quantities or {}).items()}


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

"""Formats durations, amounts and estimates for people. Pure."""

from collections.abc import Collection
from datetime import datetime, timedelta

from phjob_cli.forecast import Estimate
from phjob_core.gpus import GpuResources
from phjob_core.quantities import GPU, Amounts, render

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(time: timedelta) -> str:
    """Return `2 h 5 min`: the two largest units, without the smaller one if it is 0."""
    seconds = max(int(time.total_seconds()), 0)
    for index, (unit, size) in enumerate(_UNITS):
        if seconds >= size:
            parts = [f"{seconds // size} {unit}"]
            if index + 1 < len(_UNITS):
                smaller, smaller_size = _UNITS[index + 1]
                if rest := seconds % size // smaller_size:
                    parts.append(f"{rest} {smaller}")
            return " ".join(parts)
    return "0 s"


def short_duration(time: timedelta) -> str:
    """Return `125m`, as kubectl writes an age in a column."""
    seconds = max(int(time.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 2 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 2 * 86400 else f"{seconds // 86400}d"


def start(estimate: Estimate, now: datetime) -> str:
    """Return when a job starts, as `in about 2 min (median), within 5 min (90 %)`."""
    p50, p90 = estimate.p50, estimate.p90
    if p50 is None:
        latest = f"; in {duration(p90 - now)} at the latest, because of deadlines" if p90 else ""
        return f"unknown: {estimate.unknown}{latest}"
    if p90 is not None and p90 <= now:
        return "now"
    median = "now" if p50 <= now else f"in about {duration(p50 - now)}"
    if p90 is None:
        return f"{median} (median); no limit can be estimated"
    return f"{median} (median), within {duration(p90 - now)} (90 %)"


def short_start(estimate: Estimate, now: datetime) -> str:
    """Return when a job starts, for a column: p50 and p90."""
    p50, p90 = estimate.p50, estimate.p90
    if p90 and p90 <= now:
        return "now"
    if p50 is None and p90 is None:
        return "unknown"
    return ", ".join(short_duration(moment - now) if moment else "?" for moment in (p50, p90))


def amounts(all_amounts: Amounts, only: Collection[str], gpus: GpuResources) -> str:
    """Return `gpu 2, cpu 500m`, GPUs first.

    With `only`, exactly those resources appear. If it is empty, all do, but `gpus` once, as `gpu`.
    """
    chosen = only or without_gpu_names(all_amounts, gpus)
    shown = {name: amount for name, amount in all_amounts.items() if amount and name in chosen}
    order = sorted(shown, key=lambda name: (name != GPU, name))
    return ", ".join(f"{name} {render(name, shown[name])}" for name in order) or "nothing"


def without_gpu_names(resources: Collection[str], gpus: GpuResources) -> list[str]:
    """Return the resources without those that also count as `gpu`, if `gpu` is one of them."""
    return [name for name in resources if GPU not in resources or not gpus.counts(name)]


def names(all_names: Collection[str], limit: int) -> str:
    """Return `a, b, c and 12 more`, with at most `limit` names."""
    first = list(all_names)[:limit]
    more = len(all_names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")

"""Times, amounts and estimates in words, as every command writes them. Pure."""

from collections.abc import Collection
from datetime import datetime, timedelta

from kubectl_phjob.forecast import Estimate
from shared.resources import GPU, Amounts, is_gpu, render

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(time: timedelta) -> str:
    """`2 h 5 min`: the two largest units, of which the smaller is left out where it is 0."""
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


def short_span(time: timedelta) -> str:
    """`125m` as kubectl writes an age: for columns."""
    seconds = max(int(time.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 2 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 2 * 86400 else f"{seconds // 86400}d"


def when(moment: datetime, now: datetime) -> str:
    """`now`, or `in 5 min`."""
    return "now" if moment <= now else f"in {span(moment - now)}"


def start(estimate: Estimate, now: datetime) -> str:
    """When a job starts, in a sentence."""
    p50, p90 = estimate.p50, estimate.p90
    if p50 is None:
        latest = f"; {when(p90, now)} at the latest, by deadlines" if p90 else ""
        return f"unknown: {estimate.unknown}{latest}"
    if p90 is None:
        return f"{when(p50, now)} (as likely before as after); at worst nobody knows"
    if p90 <= now:
        return "now"
    return f"{when(p50, now)} (as likely before as after), {when(p90, now)} in nine of ten cases"


def short_start(estimate: Estimate, now: datetime) -> str:
    """The same, for columns: p50 and p90."""
    p50, p90 = estimate.p50, estimate.p90
    if p90 and p90 <= now:
        return "now"
    if p50 is None and p90 is None:
        return "unknown"
    return ", ".join(short_span(moment - now) if moment else "?" for moment in (p50, p90))


def amounts(of: Amounts, only: Collection[str] = ()) -> str:
    """`gpu 2, cpu 500m`; every GPU once, however it is named; `only`: nothing else."""
    shown = {
        name: amount
        for name, amount in of.items()
        if amount and (name in only if only else not (is_gpu(name) and GPU in of))
    }
    order = sorted(shown, key=lambda name: (name != GPU, name))
    return ", ".join(f"{name} {render(name, shown[name])}" for name in order) or "nothing"


def listed(names: Collection[str], most: int) -> str:
    """`a, b, c and 12 more`."""
    first = list(names)[:most]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")

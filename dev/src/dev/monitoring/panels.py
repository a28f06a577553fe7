"""What a dashboard consists of, as data: which queries are shown how.

What is on each dashboard is in the module named after it; how Grafana wants it, in `grafana`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "s", "cores", "bytes", "ops", "percentunit", "dateTimeFromNow"]
"""Grafana's names; `ops` is per second."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are called in the legend."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One picture: its title is a question, its description says what a good answer looks like."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: Unit = "short"
    kind: Literal["lines", "stacked", "number"] = "lines"
    alarm_above: float | None = None
    """From which value on it is red."""


@dataclass(frozen=True)
class Row:
    """Panels side by side under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """A page."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    by_group: bool = False
    """Whether it is of one group, chosen on top (`$group`)."""


def quantile(share: float, histogram: str, by: str = "", of: str = "") -> str:
    """The quantile of a histogram over the last five minutes."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{of}[5m])))"

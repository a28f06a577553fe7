"""The parts of a dashboard, as data: rows of panels, each with its queries.

Each dashboard has a module of its name. `grafana` generates its JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "s", "cores", "bytes", "ops", "percentunit", "dateTimeFromNow"]
"""The unit of a panel, by Grafana's names; `ops` is per second."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the name of its series in the legend."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph or number. Its description has what is shown, and the values of a healthy installation."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: Unit = "short"
    kind: Literal["lines", "stacked", "number"] = "lines"
    red_from: float | None = None
    """The lowest value that is shown in red."""


@dataclass(frozen=True)
class Row:
    """Panels side by side, under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard: a page with rows of panels."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    by_group: bool = False
    """True if the dashboard is of one group, which its reader selects (`$group`)."""


def quantile(share: float, histogram: str, by: str = "", selector: str = "") -> str:
    """Return the PromQL expression for a quantile of a histogram over 5 minutes."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{selector}[5m])))"

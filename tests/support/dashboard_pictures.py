"""Pictures of dashboards, drawn from the data of a Prometheus, for readers without Grafana."""

import math
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tests.support.prometheus import Prometheus

from dev.monitoring.panels import Dashboard, Panel

mpl.use("Agg")

PANEL_WIDTH_INCHES, PANEL_HEIGHT_INCHES = 5.5, 3.2


def draw_dashboard(
    page: Dashboard, prometheus: Prometheus, since: float, until: float, group: str, file: Path
) -> None:
    """Draw all panels of a dashboard between the two times into a PNG file."""
    columns = max(len(row.panels) for row in page.rows)
    figure = Figure(
        figsize=(PANEL_WIDTH_INCHES * columns, PANEL_HEIGHT_INCHES * len(page.rows)), layout="constrained"
    )
    figure.suptitle(page.title, fontsize=16, fontweight="bold")
    grid = figure.subplots(len(page.rows), columns, squeeze=False)
    for row, axes_of_row in zip(page.rows, grid, strict=True):
        for panel, axes in zip(row.panels, axes_of_row, strict=False):
            _draw_panel(panel, axes, prometheus, since, until, group)
        for axes in axes_of_row[len(row.panels) :]:
            axes.set_axis_off()
    figure.savefig(file, dpi=70)


def _draw_panel(
    panel: Panel, axes: Axes, prometheus: Prometheus, since: float, until: float, group: str
) -> None:
    axes.set_title(panel.title, fontsize=11, loc="left")
    lines: list[tuple[str, list[float], list[float]]] = []
    for query in panel.queries:
        for series in prometheus.query_range(query.expr.replace("$group", group), since, until):
            points = [(float(at) - since, float(value)) for at, value in series["values"]]
            points = [point for point in points if not math.isnan(point[1])]
            name = re.sub(r"{{(\w+)}}", lambda m, of=series: of["metric"].get(m[1], ""), query.legend)  # type: ignore[misc]
            lines.append((name, [at for at, _ in points], [value for _, value in points]))
    if panel.kind == "number":
        last = lines[-1][2][-1] if lines and lines[-1][2] else 0
        red = panel.red_from is not None and last >= panel.red_from
        axes.set_axis_off()
        axes.text(0.5, 0.4, f"{last:.3g}", fontsize=36, ha="center", color="firebrick" if red else "seagreen")
        return
    for name, times, values in lines:
        axes.plot(times, values, label=name, linewidth=1.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s", fontsize=8)
    axes.set_ylabel(panel.unit if panel.unit != "short" else "", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=7, loc="upper left", ncols=2)

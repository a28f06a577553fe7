"""Grafana's JSON of the dashboards, made with Grafana's SDK (`python -m dev docs`)."""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphGradientMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

from dev.monitoring.one_group import ONE_GROUP
from dev.monitoring.panels import Dashboard, Panel
from dev.monitoring.queues import QUEUES
from dev.monitoring.services_and_broker import SERVICES_AND_BROKER

FOLDER = Path(__file__).parents[4] / "k8s" / "chart" / "monitoring" / "dashboards"
ALL = (QUEUES, ONE_GROUP, SERVICES_AND_BROKER)

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_COLUMNS = 24
_HEIGHT = 8


def files() -> dict[Path, str]:
    """Return the content of each dashboard's file, by its path."""
    return {FOLDER / f"{page.uid}.json": _json(page) for page in ALL}


def _json(page: Dashboard) -> str:
    builder = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags(["phjob"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    if page.by_group:
        builder.with_variable(
            dashboard.QueryVariable("group")
            .label("Group")
            .datasource(_SOURCE)
            .query("label_values(phjob_jobs, group)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
    for row in page.rows:
        builder.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            builder.with_panel(_panel(panel, _COLUMNS // len(row.panels)))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def _panel(panel: Panel, width: int) -> Any:
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    steps = [Threshold(value=None, color="green")]
    if panel.red_from is not None:
        steps.append(Threshold(value=panel.red_from, color="red"))
    made: Any
    if panel.kind == "number":
        made = stat.Panel().color_mode(BigValueColorMode.BACKGROUND)
    else:
        made = (
            timeseries.Panel()
            .legend(
                common.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(True)  # noqa: FBT003 - Grafana's method
            )
            .fill_opacity(40 if panel.kind == "stacked" else 5)
            .gradient_mode(GraphGradientMode.NONE)
        )
        if panel.kind == "stacked":
            made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        if panel.red_from is not None:
            made.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    made.title(panel.title).description(panel.description).datasource(_SOURCE)
    made.unit("short" if panel.unit == "cores" else panel.unit).min(0).span(width).height(_HEIGHT)
    made.thresholds(thresholds.steps(steps))
    for number, query in enumerate(panel.queries):
        made.with_target(
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        )
    return made

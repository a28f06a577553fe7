"""The dashboard *One group*, for its administrator: its queue, its quota, its jobs."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

OF = '{group="$group"}'


def _quota(name: str, resource: str, unit: str) -> Panel:
    return Panel(
        f"{name}: used and allowed",
        "Who holds how much of the group's quota, and where its end is.",
        (
            Query(f'sum by (kind) (phjob_quota_used{{group="$group", resource="{resource}"}})', "{{kind}}"),
            Query(
                f'max(phjob_quota_limit{{group="$group", scope="group", resource="{resource}"}})',
                "group quota",
            ),
            Query(
                f'max(phjob_quota_limit{{group="$group", scope="user", resource="{resource}"}})',
                "quota of one user",
            ),
        ),
        unit=unit,  # type: ignore[arg-type]
    )


ONE_GROUP = Dashboard(
    uid="phjob-group",
    title="PhJob: one group",
    description="The queue, the quota and the jobs of one group.",
    by_group=True,
    rows=(
        Row(
            "Its queue",
            (
                Panel(
                    "Jobs",
                    "All that are not finished.",
                    (Query(f"sum by (phase) (phjob_jobs{OF})", "{{phase}}"),),
                    kind="stacked",
                ),
                Panel(
                    "Why they wait",
                    "The heads that are short of quota, the jobs behind them, and those that pause.",
                    (Query(f"sum by (reason) (phjob_pending_jobs{OF})", "{{reason}}"),),
                    kind="stacked",
                ),
                Panel(
                    "Oldest pending job",
                    "How long it waits.",
                    (Query(f"max(time() - phjob_oldest_pending_timestamp_seconds{OF})", "age"),),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Its quota",
            (
                _quota("GPU", "gpu", "short"),
                _quota("CPU", "cpu", "cores"),
                _quota("Memory", "memory", "bytes"),
            ),
        ),
        Row(
            "Its jobs",
            (
                Panel(
                    "How they end",
                    "In the last hour.",
                    (
                        Query(
                            "sum by (phase, reason) (increase(phjob_transitions_total"
                            '{group="$group", phase=~"Succeeded|Failed|Cancelled"}[1h]))',
                            "{{phase}} {{reason}}",
                        ),
                    ),
                    kind="stacked",
                ),
                Panel(
                    "How long they wait",
                    "From creation to Preparing.",
                    (
                        Query(quantile(0.5, "phjob_wait_seconds", of=OF), "half of them"),
                        Query(quantile(0.9, "phjob_wait_seconds", of=OF), "nine of ten"),
                    ),
                    unit="s",
                ),
                Panel(
                    "How long they run",
                    "From the container's start to its end.",
                    (
                        Query(quantile(0.5, "phjob_run_seconds", of=OF), "half of them"),
                        Query(quantile(0.9, "phjob_run_seconds", of=OF), "nine of ten"),
                    ),
                    unit="s",
                ),
            ),
        ),
    ),
)

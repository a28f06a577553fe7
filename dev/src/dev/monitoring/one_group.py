"""The dashboard *One group*, for the administrator of a group: its queue, quotas and jobs."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

GROUP_SELECTOR = '{group="$group"}'


def _quota(name: str, resource: str, unit: str) -> Panel:
    return Panel(
        f"{name}: usage and quotas",
        "The usage of jobs, Jupyter servers and reservations, and the two quotas.",
        (
            Query(f'sum by (kind) (phjob_quota_used{{group="$group", resource="{resource}"}})', "{{kind}}"),
            Query(
                f'max(phjob_quota_limit{{group="$group", scope="group", resource="{resource}"}})',
                "group quota",
            ),
            Query(
                f'max(phjob_quota_limit{{group="$group", scope="user", resource="{resource}"}})',
                "user quota",
            ),
        ),
        unit=unit,  # type: ignore[arg-type]
    )


ONE_GROUP = Dashboard(
    uid="phjob-group",
    title="PhJob: one group",
    description="The queue, the quotas and the jobs of one group.",
    by_group=True,
    rows=(
        Row(
            "Queue",
            (
                Panel(
                    "Unfinished jobs",
                    "The number of jobs that are not finished, by phase.",
                    (Query(f"sum by (phase) (phjob_jobs{GROUP_SELECTOR})", "{{phase}}"),),
                    kind="stacked",
                ),
                Panel(
                    "Pending jobs, by reason",
                    "UserQuota and GroupQuota: the heads that exceed that quota. Queued: the jobs behind "
                    "them. Requeued: the jobs in backoff, because their pod did not start.",
                    (Query(f"sum by (reason) (phjob_pending_jobs{GROUP_SELECTOR})", "{{reason}}"),),
                    kind="stacked",
                ),
                Panel(
                    "Oldest pending job",
                    "The age of the oldest pending job.",
                    (Query(f"max(time() - phjob_oldest_pending_timestamp_seconds{GROUP_SELECTOR})", "age"),),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Quotas",
            (
                _quota("GPU", "gpu", "short"),
                _quota("CPU", "cpu", "cores"),
                _quota("Memory", "memory", "bytes"),
            ),
        ),
        Row(
            "Finished jobs",
            (
                Panel(
                    "Finished jobs, by result",
                    "The number of jobs that finished in the last hour, by phase and reason.",
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
                    "Wait time",
                    "The time from creation to Preparing.",
                    (
                        Query(quantile(0.5, "phjob_wait_seconds", selector=GROUP_SELECTOR), "median"),
                        Query(quantile(0.9, "phjob_wait_seconds", selector=GROUP_SELECTOR), "90 %"),
                    ),
                    unit="s",
                ),
                Panel(
                    "Run time",
                    "The time from the start of the container to its end.",
                    (
                        Query(quantile(0.5, "phjob_run_seconds", selector=GROUP_SELECTOR), "median"),
                        Query(quantile(0.9, "phjob_run_seconds", selector=GROUP_SELECTOR), "90 %"),
                    ),
                    unit="s",
                ),
            ),
        ),
    ),
)

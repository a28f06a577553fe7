"""The dashboard *Queues and quota*: is it healthy, who waits and why, how full is it."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

HEALTH = Row(
    "Is it healthy?",
    (
        Panel(
            "Services without an active replica",
            "Zero. Of each queue's replicas exactly one is to be active.",
            (Query("count(max by (queue) (phjob_active) == 0) or vector(0)", "queues"),),
            kind="number",
            alarm_above=1,
        ),
        Panel(
            "Oldest admission not carried out",
            "Near zero: a job that may go is Preparing within a second.",
            (Query("max(time() - phjob_admissible_timestamp_seconds) or vector(0)", "age"),),
            unit="s",
            kind="number",
            alarm_above=30,
        ),
        Panel(
            "Quota drift",
            "Zero: what the scheduler counts and what the watcher counts in Kubernetes are the same.",
            (Query("max(abs(phjob:quota_drift)) or vector(0)", "drift"),),
            kind="number",
            alarm_above=0.001,
        ),
        Panel(
            "Dead letters",
            "Zero: every message could be handled.",
            (
                Query(
                    'max(rabbitmq_detailed_queue_messages_ready{queue="phjob.dead"}) or vector(0)', "messages"
                ),
            ),
            kind="number",
            alarm_above=1,
        ),
    ),
)
WAITING = Row(
    "Who waits, and why?",
    (
        Panel(
            "Jobs",
            "All jobs that are not finished.",
            (Query("sum by (phase) (phjob_jobs)", "{{phase}}"),),
            kind="stacked",
        ),
        Panel(
            "Pending jobs by reason",
            "UserQuota and GroupQuota count the heads that are short of it; Queued are those behind them, "
            "Requeued those that pause because their pod did not start.",
            (Query("sum by (reason) (phjob_pending_jobs)", "{{reason}}"),),
            kind="stacked",
        ),
        Panel(
            "Oldest pending job, by group",
            "How long the job waits that waits longest.",
            (Query("topk(10, time() - phjob_oldest_pending_timestamp_seconds)", "{{group}}"),),
            unit="s",
        ),
        Panel(
            "Head of a blocked group",
            "How long ago the job was created that its whole group waits behind.",
            (Query("topk(10, time() - phjob_head_timestamp_seconds)", "{{group}}"),),
            unit="s",
        ),
    ),
)
FLOW = Row(
    "How does it flow?",
    (
        Panel(
            "Submitted, admitted, finished, requeued",
            "Per second. Over a day the first three are the same.",
            (
                Query("sum(rate(phjob_submitted_total[5m]))", "submitted"),
                Query('sum(rate(phjob_transitions_total{phase="Preparing"}[5m]))', "admitted"),
                Query(
                    'sum(rate(phjob_transitions_total{phase=~"Succeeded|Failed|Cancelled"}[5m]))', "finished"
                ),
                Query('sum(rate(phjob_transitions_total{reason="Requeued"}[5m]))', "requeued"),
            ),
            unit="ops",
        ),
        Panel(
            "How jobs end",
            "Per second, by phase and reason.",
            (
                Query(
                    "sum by (phase, reason) "
                    '(rate(phjob_transitions_total{phase=~"Succeeded|Failed|Cancelled"}[5m]))',
                    "{{phase}} {{reason}}",
                ),
            ),
            unit="ops",
            kind="stacked",
        ),
        Panel(
            "Wait, start and run",
            "Medians: from creation to Preparing, from there to the container's start, and its run.",
            (
                Query(quantile(0.5, "phjob_wait_seconds"), "wait"),
                Query(quantile(0.5, "phjob_start_seconds"), "start"),
                Query(quantile(0.5, "phjob_run_seconds"), "run"),
            ),
            unit="s",
        ),
        Panel(
            "The slow ones",
            "The same at 95 %.",
            (
                Query(quantile(0.95, "phjob_wait_seconds"), "wait"),
                Query(quantile(0.95, "phjob_start_seconds"), "start"),
                Query(quantile(0.95, "phjob_cancel_seconds"), "cancel"),
            ),
            unit="s",
        ),
    ),
)
_SHARE = (
    "topk(10, sum by (group) (phjob_quota_used{{resource='{0}'}}) "
    "/ sum by (group) (phjob_quota_limit{{scope='group', resource='{0}'}}))"
)
FULL = Row(
    "How full is it?",
    (
        *(
            Panel(
                f"Group quota of {name} in use",
                "The fullest groups; at 100 % the next job of the group waits.",
                (Query(_SHARE.format(resource), "{{group}}"),),
                unit="percentunit",
            )
            for name, resource in (("GPU", "gpu"), ("CPU", "cpu"), ("memory", "memory"))
        ),
        Panel(
            "GPUs, by who holds them",
            "Jobs, Jupyter servers, and jobs that are admitted and whose pod is not seen yet (reserved).",
            (Query("sum by (kind) (phjob_quota_used{resource='gpu'})", "{{kind}}"),),
            kind="stacked",
        ),
    ),
)

QUEUES = Dashboard(
    uid="phjob-queues",
    title="PhJob: queues and quota",
    description="Is it healthy, who waits and why, how full is it.",
    rows=(HEALTH, WAITING, FLOW, FULL),
)

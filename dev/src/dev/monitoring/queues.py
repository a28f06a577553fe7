"""The dashboard *Queues and quota*: the health of PhJob, its queues, its throughput, and the quota usage."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

HEALTH = Row(
    "Health",
    (
        Panel(
            "Queues without an active replica",
            "The number of queues that no replica processes. Healthy: 0.",
            (Query("count(max by (queue) (phjob_active) == 0) or vector(0)", "queues"),),
            kind="number",
            red_from=1,
        ),
        Panel(
            "Oldest admission in progress",
            "The time since the oldest command to admit a job that is not yet Preparing. Healthy: below 1 s.",
            (Query("max(time() - phjob_admissible_timestamp_seconds) or vector(0)", "age"),),
            unit="s",
            kind="number",
            red_from=30,
        ),
        Panel(
            "Quota drift",
            "The greatest difference between the usage that the scheduler counts and the one that the "
            "watcher counts, in cores, bytes or devices. Healthy: 0.",
            (Query("max(abs(phjob:quota_drift)) or vector(0)", "drift"),),
            kind="number",
            red_from=0.001,
        ),
        Panel(
            "Dead letters",
            "The number of messages that no service could process. Healthy: 0.",
            (
                Query(
                    'max(rabbitmq_detailed_queue_messages_ready{queue="phjob.dead"}) or vector(0)', "messages"
                ),
            ),
            kind="number",
            red_from=1,
        ),
    ),
)
WAITING = Row(
    "Waiting jobs",
    (
        Panel(
            "Unfinished jobs",
            "The number of jobs that are not finished, by phase.",
            (Query("sum by (phase) (phjob_jobs)", "{{phase}}"),),
            kind="stacked",
        ),
        Panel(
            "Pending jobs, by reason",
            "UserQuota and GroupQuota: the heads that exceed that quota. Queued: the jobs behind them. "
            "Requeued: the jobs in backoff, because their pod did not start.",
            (Query("sum by (reason) (phjob_pending_jobs)", "{{reason}}"),),
            kind="stacked",
        ),
        Panel(
            "Oldest pending job, by group",
            "The age of the oldest pending job, in the ten groups where it is greatest.",
            (Query("topk(10, time() - phjob_oldest_pending_timestamp_seconds)", "{{group}}"),),
            unit="s",
        ),
        Panel(
            "Blocking job, by group",
            "The age of the job that blocks its group's queue, in the ten groups where it is greatest.",
            (Query("topk(10, time() - phjob_head_timestamp_seconds)", "{{group}}"),),
            unit="s",
        ),
    ),
)
FLOW = Row(
    "Throughput",
    (
        Panel(
            "Submitted, admitted, finished, requeued",
            "Jobs per second. Over a day, the first three are equal.",
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
            "Finished jobs, by result",
            "Jobs per second, by phase and reason.",
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
            "Wait, start and run (median)",
            "Wait: from creation to Preparing. Start: from Preparing to the start of the container. "
            "Run: from its start to its end. 50 % of the jobs take at most this time.",
            (
                Query(quantile(0.5, "phjob_wait_seconds"), "wait"),
                Query(quantile(0.5, "phjob_start_seconds"), "start"),
                Query(quantile(0.5, "phjob_run_seconds"), "run"),
            ),
            unit="s",
        ),
        Panel(
            "Wait, start and cancel (95 %)",
            "Cancel: from the observation of the cancel to Cancelled. 95 % of the jobs take at most this "
            "time.",
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
    "Quota usage",
    (
        *(
            Panel(
                f"Used share of the group quota: {name}",
                "The ten groups with the greatest share. At 100 %, the next job of the group waits.",
                (Query(_SHARE.format(resource), "{{group}}"),),
                unit="percentunit",
            )
            for name, resource in (("GPU", "gpu"), ("CPU", "cpu"), ("memory", "memory"))
        ),
        Panel(
            "GPUs in use, by holder",
            "job: pods of jobs. jupyter: Jupyter servers. reserved: jobs that are admitted, and whose pod is "
            "not observed yet.",
            (Query("sum by (kind) (phjob_quota_used{resource='gpu'})", "{{kind}}"),),
            kind="stacked",
        ),
    ),
)

QUEUES = Dashboard(
    uid="phjob-queues",
    title="PhJob: queues and quota",
    description="The health of PhJob, the jobs that wait and why, throughput, and quota usage.",
    rows=(HEALTH, WAITING, FLOW, FULL),
)

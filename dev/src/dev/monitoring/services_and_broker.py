"""The dashboard *Services and broker*: the state of the four services, RabbitMQ and the API server."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

SERVICES_AND_BROKER = Dashboard(
    uid="phjob-services",
    title="PhJob: services and broker",
    description="The state of the four services, RabbitMQ and the API server.",
    rows=(
        Row(
            "Streams",
            (
                Panel(
                    "Active replicas",
                    "The number of active replicas of each queue. Healthy: 1.",
                    (Query("sum by (queue) (phjob_active)", "{{queue}}"),),
                ),
                Panel(
                    "Event lag",
                    "The age of the latest heartbeat of the watcher that each queue's replica has processed. "
                    "Healthy: about 1 s, the interval of the heartbeats.",
                    (Query("time() - max by (queue) (phjob_heartbeat_timestamp_seconds)", "{{queue}}"),),
                    unit="s",
                    red_from=10,
                ),
                Panel(
                    "Resyncs",
                    "Requests for a snapshot per second. They occur only after a start, a takeover or a lost "
                    "message.",
                    (Query("sum by (reason) (rate(phjob_resyncs_total[5m]))", "{{reason}}"),),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Broker",
            (
                Panel(
                    "Queue depth",
                    "The number of ready and unacknowledged messages in each queue. Healthy: near 0.",
                    (Query("max by (queue) (rabbitmq_detailed_queue_messages)", "{{queue}}"),),
                ),
                Panel(
                    "Messages received",
                    "Messages per second, by kind.",
                    (Query("sum by (kind) (rate(phjob_messages_received_total[5m]))", "{{kind}}"),),
                    unit="ops",
                    kind="stacked",
                ),
                Panel(
                    "Messages redelivered, dead-lettered, failed",
                    "Messages per second. Redeliveries occur after a takeover. Healthy: 0 for the others.",
                    (
                        Query("sum(rate(phjob_messages_redelivered_total[5m])) or vector(0)", "redelivered"),
                        Query(
                            "sum(rate(phjob_messages_dead_lettered_total[5m])) or vector(0)", "dead-lettered"
                        ),
                        Query("sum(rate(phjob_handler_failures_total[5m])) or vector(0)", "failed"),
                    ),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Work",
            (
                Panel(
                    "Duration of handlers (99 %)",
                    "The time to handle a message, by kind. 99 % of the messages take at most this time.",
                    (Query(quantile(0.99, "phjob_handler_duration_seconds", by="kind"), "{{kind}}"),),
                    unit="s",
                ),
                Panel(
                    "Requests to the API server",
                    "Requests per second, by HTTP status. 0 means no answer.",
                    (Query("sum by (code) (rate(phjob_api_requests_total[5m]))", "{{code}}"),),
                    unit="ops",
                    kind="stacked",
                ),
                Panel(
                    "Duration of API requests (95 %)",
                    "The time until the API server answers. 95 % of the requests take at most this time.",
                    (
                        Query(
                            quantile(0.95, "phjob_api_request_duration_seconds", by="verb, resource"),
                            "{{verb}} {{resource}}",
                        ),
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "Memory",
                    "The memory of each replica. The limit of the chart is 512 MiB.",
                    (
                        Query(
                            "process_resident_memory_bytes and on (instance) phjob_broker_connected",
                            "{{instance}}",
                        ),
                    ),
                    unit="bytes",
                    red_from=400 * 1024**2,
                ),
                Panel(
                    "CPU",
                    "The CPU usage of each replica, in cores.",
                    (
                        Query(
                            "rate(process_cpu_seconds_total[5m]) and on (instance) phjob_broker_connected",
                            "{{instance}}",
                        ),
                    ),
                    unit="cores",
                ),
                Panel(
                    "Log archive",
                    "waiting: logs that the archive has not accepted. lost: logs of pods that were deleted "
                    "before. Healthy: 0.",
                    (
                        Query("sum(phjob_log_archive_waiting)", "waiting"),
                        Query("sum(increase(phjob_log_archive_lost_total[1h]))", "lost in the last hour"),
                    ),
                ),
            ),
        ),
    ),
)

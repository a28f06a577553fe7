"""The dashboard *Services and broker*: are the four services, RabbitMQ and the API server well."""

from dev.monitoring.panels import Dashboard, Panel, Query, Row, quantile

SERVICES_AND_BROKER = Dashboard(
    uid="phjob-services",
    title="PhJob: services and broker",
    description="Are the four services, RabbitMQ and the API server well.",
    rows=(
        Row(
            "Streams",
            (
                Panel(
                    "Active replicas",
                    "One for each queue.",
                    (Query("sum by (queue) (phjob_active)", "{{queue}}"),),
                ),
                Panel(
                    "Event lag",
                    "How old the last news of a service are; about a second, the heartbeat's interval.",
                    (Query("time() - max by (queue) (phjob_heartbeat_timestamp_seconds)", "{{queue}}"),),
                    unit="s",
                    alarm_above=10,
                ),
                Panel(
                    "Sessions",
                    "Snapshots asked for, per second: only when a replica starts, takes over, or doubts.",
                    (Query("sum by (reason) (rate(phjob_sessions_total[5m]))", "{{reason}}"),),
                    unit="ops",
                ),
            ),
        ),
        Row(
            "Broker",
            (
                Panel(
                    "Queue depth",
                    "Ready and unacknowledged messages; near zero.",
                    (Query("max by (queue) (rabbitmq_detailed_queue_messages)", "{{queue}}"),),
                ),
                Panel(
                    "Messages",
                    "Received per second, by kind.",
                    (Query("sum by (kind) (rate(phjob_messages_received_total[5m]))", "{{kind}}"),),
                    unit="ops",
                    kind="stacked",
                ),
                Panel(
                    "Redelivered, buried, failed",
                    "Per second. Redeliveries come with a takeover; the others never.",
                    (
                        Query("sum(rate(phjob_messages_redelivered_total[5m])) or vector(0)", "redelivered"),
                        Query("sum(rate(phjob_messages_buried_total[5m])) or vector(0)", "buried"),
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
                    "Handling of a message",
                    "99 of 100 are faster.",
                    (Query(quantile(0.99, "phjob_handler_duration_seconds", by="kind"), "{{kind}}"),),
                    unit="s",
                ),
                Panel(
                    "Requests to the API server",
                    "Per second, by answer; 0: none came.",
                    (Query("sum by (code) (rate(phjob_api_requests_total[5m]))", "{{code}}"),),
                    unit="ops",
                    kind="stacked",
                ),
                Panel(
                    "How long the API server takes",
                    "95 of 100 are faster.",
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
                    "Of each replica; its limit is 512 MiB.",
                    (
                        Query(
                            "process_resident_memory_bytes and on (instance) phjob_broker_connected",
                            "{{instance}}",
                        ),
                    ),
                    unit="bytes",
                    alarm_above=400 * 1024**2,
                ),
                Panel(
                    "CPU",
                    "Of each replica, in cores.",
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
                    "Logs that wait because it does not take them: zero. Lost: a pod had to go without.",
                    (
                        Query("sum(phjob_log_archive_waiting)", "waiting"),
                        Query("sum(increase(phjob_log_archive_lost_total[1h]))", "lost in the last hour"),
                    ),
                ),
            ),
        ),
    ),
)

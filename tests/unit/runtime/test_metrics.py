"""The metrics of every service: names, labels and values, as Prometheus gets them."""

from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from phjob_core.messages import Heartbeat
from phjob_core.stream import Envelope
from phjob_runtime import metrics


def value(name: str, **labels: str) -> float | None:
    """Return the value of a sample; None if there is no such sample."""
    return REGISTRY.get_sample_value(name, labels)


def count(name: str, **labels: str) -> float:
    return value(name, **labels) or 0


def envelope(publisher: str, *, redelivered: bool = False) -> Envelope:
    return Envelope(publisher, "session", 0, Heartbeat(), redelivered)


def test_a_received_message_counts_for_its_publisher_and_kind() -> None:
    """A dashboard shows who sends how much."""
    before = count("phjob_messages_received_total", publisher="scheduler", kind="Heartbeat")
    metrics.message_received(envelope("scheduler"))
    assert count("phjob_messages_received_total", publisher="scheduler", kind="Heartbeat") == before + 1


def test_an_unknown_publisher_gets_no_label_of_its_own() -> None:
    """Otherwise anybody who may publish could create any number of series."""
    before = count("phjob_messages_received_total", publisher="other", kind="undecodable")
    metrics.message_received(Envelope("intruder", "session", 0, None))
    assert count("phjob_messages_received_total", publisher="other", kind="undecodable") == before + 1
    assert value("phjob_messages_received_total", publisher="intruder", kind="undecodable") is None


def test_a_redelivered_message_counts_as_received_and_as_redelivered() -> None:
    """It was received again."""
    before = count("phjob_messages_redelivered_total", publisher="janitor")
    metrics.message_received(envelope("janitor", redelivered=True))
    metrics.message_received(envelope("janitor"))
    assert count("phjob_messages_redelivered_total", publisher="janitor") == before + 1


def test_the_time_of_a_handler_is_measured_even_if_it_fails() -> None:
    """A slow handler that fails is still slow."""
    name = "phjob_handler_duration_seconds_count"
    before = count(name, kind="Heartbeat")
    with pytest.raises(ZeroDivisionError), metrics.time_handler(envelope("watcher")):
        raise ZeroDivisionError
    assert count(name, kind="Heartbeat") == before + 1


def test_a_queues_dead_letters_start_at_zero() -> None:
    """Otherwise Prometheus would see no increase at the first of them, and no alert would fire."""
    assert value("phjob_messages_dead_lettered_total", queue="of-a-test") is None
    metrics.consuming("of-a-test")
    assert value("phjob_messages_dead_lettered_total", queue="of-a-test") == 0
    metrics.message_dead_lettered("of-a-test")
    assert value("phjob_messages_dead_lettered_total", queue="of-a-test") == 1


def test_rejected_messages_count_for_their_queue() -> None:
    """All messages of a rejected batch count."""
    before = count("phjob_messages_rejected_total", queue="of-a-test")
    metrics.messages_rejected("of-a-test", 200)
    assert count("phjob_messages_rejected_total", queue="of-a-test") == before + 200


def test_a_replica_is_active_or_on_standby() -> None:
    """1 and 0, so that a sum counts the active replicas."""
    metrics.set_active("of-a-test")
    assert value("phjob_active", queue="of-a-test") == 1
    metrics.set_standby("of-a-test")
    assert value("phjob_active", queue="of-a-test") == 0


def test_the_connection_to_the_broker_is_one_or_zero() -> None:
    """The alert PhJobBrokerUnreachable fires at 0."""
    metrics.broker_connected()
    assert value("phjob_broker_connected") == 1
    metrics.broker_disconnected()
    assert value("phjob_broker_connected") == 0


def test_the_outbox_is_counted_at_the_scrape() -> None:
    """Counting it at each message would cost time for each."""
    waiting = [1, 2, 3]
    metrics.observe_outbox(lambda: len(waiting))
    assert value("phjob_outbox_messages") == 3
    waiting.pop()
    assert value("phjob_outbox_messages") == 2


def test_the_event_lag_is_measured_from_the_time_of_sending() -> None:
    """Not from the time of processing, which is never late."""
    sent = datetime(2026, 1, 1, tzinfo=UTC)
    metrics.heartbeat_processed("of-a-test", sent)
    assert value("phjob_heartbeat_timestamp_seconds", queue="of-a-test") == sent.timestamp()


def test_a_request_without_an_answer_has_the_code_zero() -> None:
    """The alert PhJobApiUnreachable counts the codes 0 and 5xx."""
    labels = {"verb": "GET", "resource": "pods", "code": "0"}
    before = count("phjob_api_requests_total", **labels)
    metrics.api_request("GET", "pods", 0, 30.0)
    assert count("phjob_api_requests_total", **labels) == before + 1
    assert count("phjob_api_request_duration_seconds_sum", verb="GET", resource="pods") >= 30


def test_every_metric_of_the_runtime_has_a_help_text_without_a_clause() -> None:
    """A noun phrase with a unit, and no full stop at its end."""
    ours = [family for family in REGISTRY.collect() if family.name.startswith("phjob_")]
    assert len(ours) > 10
    for family in ours:
        assert family.documentation
        assert not family.documentation.endswith(".")


def test_a_group_name_is_a_label_only_while_it_has_an_object() -> None:
    """Users invent names, and each would be a series for as long as the process runs (spec.md, E3)."""
    registry = CollectorRegistry()
    jobs = Counter("jobs", "Jobs", ["phase", "group"], registry=registry)
    times = Histogram("times", "Times", ["group"], registry=registry)
    labels = metrics.GroupLabels(jobs, times)
    labels.set_groups(["vision", "speech"])
    for group in ("vision", "speech", "invented"):
        for phase in ("Running", "Failed"):
            jobs.labels(phase, labels.of(group)).inc()
        times.labels(labels.of(group)).observe(1)
    labels.set_groups(["speech"])

    def groups() -> set[str]:
        return {sample.labels["group"] for metric in registry.collect() for sample in metric.samples}

    assert groups() == {"speech", "unknown"}
    labels.set_groups(["unknown"])
    labels.set_groups([])
    assert groups() == {"unknown"}, "the jobs of unknown groups stay counted"

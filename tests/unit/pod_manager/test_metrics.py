from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from prometheus_client.samples import Sample

from phjob_pod_manager import metrics

GROUP = {"group": "of-a-test"}
SECONDS = timedelta(seconds=2)


@pytest.fixture(autouse=True)
def _groups() -> Iterator[None]:
    """The group of these tests has a PhGroup."""
    metrics.groups_changed(["of-a-test"])
    yield
    metrics.groups_changed([])


def value(name: str, labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("record", "name", "labels"),
    [
        (
            lambda: metrics.transition_written("of-a-test", "Running", "Started"),
            "phjob_transitions_total",
            {**GROUP, "phase": "Running", "reason": "Started"},
        ),
        (
            lambda: metrics.write_rejected("of-a-test"),
            "phjob_pod_manager_writes_rejected_total",
            {"operation": "of-a-test"},
        ),
        (
            lambda: metrics.request_retried("of-a-test"),
            "phjob_pod_manager_requests_retried_total",
            {"operation": "of-a-test"},
        ),
        (
            lambda: metrics.command_ignored("Admit", "of-a-test"),
            "phjob_pod_manager_commands_ignored_total",
            {"kind": "Admit", "reason": "of-a-test"},
        ),
        (
            lambda: metrics.event_dropped("of-a-test"),
            "phjob_pod_manager_events_dropped_total",
            {"reason": "of-a-test"},
        ),
        (metrics.log_failed, "phjob_log_archive_failures_total", {}),
        (metrics.log_lost, "phjob_log_archive_lost_total", {}),
    ],
)
def test_an_event_is_counted_by_its_labels(
    record: Callable[[], None], name: str, labels: dict[str, str]
) -> None:
    """Each of them has a panel or a runbook that names it."""
    before = value(name, labels)
    record()
    assert value(name, labels) == before + 1


@pytest.mark.parametrize(
    ("record", "name", "labels"),
    [
        (lambda: metrics.job_admitted("of-a-test", SECONDS), "phjob_wait_seconds", GROUP),
        (lambda: metrics.container_started(SECONDS), "phjob_start_seconds", {}),
        (lambda: metrics.container_ended("of-a-test", SECONDS), "phjob_run_seconds", GROUP),
        (lambda: metrics.job_cancelled(SECONDS), "phjob_cancel_seconds", {}),
    ],
)
def test_a_time_is_observed_in_seconds(record: Callable[[], None], name: str, labels: dict[str, str]) -> None:
    """Prometheus computes quantiles of it."""
    count, total = value(f"{name}_count", labels), value(f"{name}_sum", labels)
    record()
    assert value(f"{name}_count", labels) == count + 1
    assert value(f"{name}_sum", labels) == pytest.approx(total + 2)


def test_a_stored_log_counts_with_its_bytes_and_its_time() -> None:
    """The size of the archive is the sum of them."""
    names = ("stored_total", "bytes_total", "duration_seconds_sum")
    before = [value(f"phjob_log_archive_{name}", {}) for name in names]
    metrics.log_stored(300, 1.5)
    increases = [value(f"phjob_log_archive_{name}", {}) for name in names]
    assert increases == [before[0] + 1, before[1] + 300, pytest.approx(before[2] + 1.5)]


def test_waiting_logs_are_a_gauge() -> None:
    """Their number can become smaller."""
    metrics.logs_waiting(3)
    metrics.logs_waiting(1)
    assert value("phjob_log_archive_waiting", {}) == 1


def test_the_series_of_a_group_end_with_it() -> None:
    """Then its jobs count as those of an unknown group (spec.md, E3)."""
    unknown = {"group": "unknown", "phase": "Running", "reason": "Started"}
    metrics.job_admitted("of-a-test", SECONDS)
    metrics.container_ended("of-a-test", SECONDS)
    metrics.transition_written("of-a-test", "Running", "Started")
    metrics.groups_changed([])
    assert "of-a-test" not in {sample.labels.get("group") for sample in samples()}
    before = value("phjob_transitions_total", unknown)
    metrics.transition_written("of-a-test", "Running", "Started")
    assert value("phjob_transitions_total", unknown) == before + 1


def samples() -> list[Sample]:
    return [sample for metric in REGISTRY.collect() for sample in metric.samples]

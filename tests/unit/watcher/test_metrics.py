from prometheus_client import REGISTRY

from phjob_watcher import metrics


def pod_usage(**labels: str) -> float | None:
    return REGISTRY.get_sample_value("phjob_pod_usage", labels)


def test_pod_usage_is_counted_at_each_scrape_in_base_units() -> None:
    """The rule `phjob:quota_drift` compares it with what the scheduler counts."""
    usage = {"phusers": {"cpu": 1500, "gpu": 2}}
    with metrics.exporting_pod_usage(lambda: usage):
        assert pod_usage(group="phusers", resource="cpu") == 1.5
        assert pod_usage(group="phusers", resource="gpu") == 2
        usage["phusers"]["gpu"] = 3
        assert pod_usage(group="phusers", resource="gpu") == 3


def test_a_standby_replica_exports_no_pod_usage() -> None:
    """The sum over the replicas would otherwise be too great."""
    with metrics.exporting_pod_usage(lambda: {"phusers": {"cpu": 1000}}):
        pass
    assert pod_usage(group="phusers", resource="cpu") is None


def test_events_are_counted_by_their_labels() -> None:
    """Each of them has a panel or a runbook that names it."""
    metrics.fact_published("JobSeen")
    metrics.watch_expired("of-a-test")
    metrics.object_skipped("of-a-test")
    metrics.snapshot_published("of-a-test")
    get = REGISTRY.get_sample_value
    assert get("phjob_watcher_facts_total", {"kind": "JobSeen"})
    assert get("phjob_watcher_watches_expired_total", {"resource": "of-a-test"}) == 1
    assert get("phjob_watcher_objects_skipped_total", {"resource": "of-a-test"}) == 1
    assert get("phjob_watcher_snapshots_total", {"queue": "of-a-test"}) == 1

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at

from phjob_core.api import PodPhase
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_scheduler import metrics

GROUP = {"group": "phusers"}


@pytest.fixture
def engine() -> Iterator[SchedulingEngine]:
    """An engine with one group, which the metrics read."""
    engine = SchedulingEngine("session")
    engine.on_catalog_synced(10**6, START)
    engine.on_group(a_group(group_quota={"gpu": 2, "memory": 2**30}), START)
    engine.catalog.instance_types["gpu-1"] = an_instance_type("gpu-1", 1)
    engine.catalog.images["base-notebook"] = an_image()
    engine.start(START)
    metrics.observe(lambda: engine)
    yield engine
    metrics.observe(lambda: SchedulingEngine(""))


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, GROUP | labels)


def test_an_unused_quota_has_a_usage_of_zero(engine: SchedulingEngine) -> None:
    """Without it, a dashboard would show no data."""
    assert value("phjob_quota_limit", scope="group", resource="gpu") == 2
    assert value("phjob_quota_used", kind="job", resource="gpu") == 0
    assert value("phjob_quota_limit", scope="user", resource="gpu") is None, "it is unlimited"


def test_usage_is_by_holder_and_jobs_by_phase_and_reason(engine: SchedulingEngine) -> None:
    """A reservation counts from the command on."""
    notebook = a_pod(a_job("notebook"), job_uid="", phase=PodPhase.RUNNING)
    engine.on_pod(notebook, START)
    for number in range(2):
        engine.on_job(a_job(f"job-{number}", created=at(number)), START)
    assert value("phjob_quota_used", kind="jupyter", resource="gpu") == 1
    assert value("phjob_quota_used", kind="reserved", resource="gpu") == 1
    assert value("phjob_jobs", phase="Pending") == 2
    assert value("phjob_pending_jobs", reason="GroupQuota") == 1


def test_times_are_absent_if_there_is_no_such_job(engine: SchedulingEngine) -> None:
    """An alert on their age would fire otherwise."""
    names = ("phjob_oldest_pending_timestamp_seconds", "phjob_head_timestamp_seconds")
    assert [value(name) for name in names] == [None, None]
    for number in range(3):
        engine.on_job(a_job(f"job-{number}", created=at(number)), START)
    assert [value(name) for name in names] == [at(2).timestamp()] * 2
    assert value("phjob_admissible_timestamp_seconds") == START.timestamp()

"""Dashboards and rules on a real Prometheus that scrapes a busy stack: every query returns data.

With `PHJOB_PICTURES=FOLDER`, the dashboards of the run are drawn into that folder.
"""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from tests.support.builders import an_unschedulable_instance_type
from tests.support.cluster import Cluster, cluster_on
from tests.support.dashboard_pictures import draw_dashboard
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.prometheus import Prometheus
from tests.support.stacks import log_archive_settings
from tests.support.waiting import eventually

from dev.monitoring import grafana
from dev.monitoring.panels import Dashboard
from dev.prometheus import RULES
from dev.stack import PARTS, Stack

PICTURES = os.environ.get("PHJOB_PICTURES")
JOBS = 60 if PICTURES else 12
QUERIES = [
    query.expr for page in grafana.ALL for row in page.rows for panel in row.panels for query in panel.queries
]
RULE_EXPRESSIONS = {
    rule.get("alert", rule.get("record")): rule["expr"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}


class Run(NamedTuple):
    """A finished run: its Prometheus, its busiest group, and its begin and end as Unix times."""

    prometheus: Prometheus
    group: str
    since: float
    until: float


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Start a separate stack, and run jobs with every kind of end on it."""
    state = tmp_path_factory.mktemp("monitored")
    capacity = {"nvidia.com/gpu": "100"}
    settings = state / "settings.yaml"
    archive = log_archive_settings(tmp_path_factory.mktemp("archive"))
    settings.write_text(archive + "jobSubmission: {preparingTimeoutSeconds: 3}\n")
    parts = (*PARTS, "prometheus")
    with (
        Stack(state, parts=parts, settings=settings, capacity=capacity, scrape_seconds=1) as stack,
        cluster_on(stack) as cluster,
    ):
        since = time.time()
        group = run_jobs(cluster)
        prometheus = Prometheus.of_stack(state)
        delay_an_admission(cluster, prometheus)
        yield Run(prometheus, group, since, time.time())


def run_jobs(cluster: Cluster) -> str:
    """Run jobs of two groups with every kind of end.

    Returns the name of the busier group.
    """
    vision = GroupFixture(
        cluster,
        "vision",
        {
            "groupQuota": {"gpu": 4, "cpu": 8, "memory": "16G"},
            "userQuota": {"gpu": 3, "cpu": 6, "memory": "12G"},
        },
    ).create()
    speech = GroupFixture(
        cluster, "speech", {"groupQuota": {"gpu": 2, "cpu": 4, "memory": "8G"}, "userQuota": {"cpu": 2}}
    ).create()
    nowhere = an_unschedulable_instance_type(cluster.unique_name("nowhere"))
    vision.grant(instance_types=tuple(cluster.create(nowhere)))
    vision.start_notebook("jupyter", gpus=1, user="ann")
    stuck = vision.submit("stuck", instanceType=cluster.unique_name("nowhere"), user="pan")
    names = []
    for number in range(JOBS):
        for group, users in ((vision, ("ann", "bob")), (speech, ("lin",))):
            user, fails = users[number % len(users)], number % 5 == 4
            names.append(
                group.submit(
                    f"{group.prefix}-{number}", gpus=1, user=user, run_for="2s", exit_code=int(fails)
                )
            )
    running = vision.submit("cancelled", user="pan", run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    cluster.cancel(running)
    rejected = vision.submit("rejected", image="nowhere")
    eventually(lambda: cluster.status(stuck)["requeued"] >= 2, "the unschedulable job was requeued twice")
    for name in (*names, running, rejected):
        cluster.wait_for_phase(name, "Succeeded", "Failed", "Cancelled", within=300)
    speech.submit("last", gpus=1, run_for=FOREVER)
    speech.submit("waits", gpus=2, user="kim")
    vision.submit("short-of-user-quota", gpus=4, user="ann") if PICTURES else None
    return vision.name


def delay_an_admission(cluster: Cluster, prometheus: Prometheus) -> None:
    """Suspend pod-manager until Prometheus has scraped an admission.

    Usually an admission takes a few milliseconds.
    """
    cluster.service("pod-manager").kill(signal.SIGSTOP)
    try:
        delayed = GroupFixture(cluster, "delayed").create().submit("delayed")
        eventually(
            lambda: prometheus.query("phjob_admissible_timestamp_seconds"),
            "the delayed admission is in the metrics",
        )
    finally:
        cluster.service("pod-manager").kill(signal.SIGCONT)
    cluster.wait_for_phase(delayed, "Succeeded")


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_every_dashboard_returns_data(run: Run, query: str) -> None:
    """Otherwise an operator would have an empty panel, without a reason."""
    expr = query.replace("$group", run.group)
    eventually(
        lambda: run.prometheus.query_range(expr, run.since, time.time()), f"{expr} has data", within=30
    )


@pytest.mark.parametrize("name", RULE_EXPRESSIONS)
def test_the_metrics_of_every_rule_exist(run: Run, name: str) -> None:
    """An alert on a metric that no service exports would never fire."""
    metrics = set(re.findall(r"\b((?:phjob|rabbitmq|process)[a-z0-9_:]+)\b", RULE_EXPRESSIONS[name]))
    eventually(
        lambda: not metrics - run.prometheus.metric_names(),
        f"the metrics {metrics} exist",
        diagnostics=lambda: metrics - run.prometheus.metric_names(),
    )


def test_all_rules_are_evaluated_without_errors_and_no_alert_fires(run: Run) -> None:
    """This stack has no faults."""
    eventually(
        lambda: (
            {rule["name"]: rule["health"] for rule in run.prometheus.rules()}
            == dict.fromkeys(RULE_EXPRESSIONS, "ok")
        ),
        "all rules are ok",
        diagnostics=run.prometheus.rules,
    )
    assert not run.prometheus.firing_alerts()
    assert run.prometheus.query("phjob:quota_drift")


def test_the_dashboard_files_are_those_of_the_code() -> None:
    """`make docs` generates them."""
    assert set(grafana.FOLDER.iterdir()) == grafana.files().keys()
    for file, content in grafana.files().items():
        assert file.read_text() == content
        json.loads(content)


@pytest.mark.parametrize("page", grafana.ALL, ids=lambda page: page.uid)
def test_a_dashboard_can_be_drawn(run: Run, page: Dashboard, tmp_path: Path) -> None:
    """The picture shows the data of this run."""
    file = Path(PICTURES or tmp_path) / f"{page.uid}.png"
    draw_dashboard(page, run.prometheus, run.since, time.time(), run.group, file)
    assert file.read_bytes().startswith(b"\x89PNG")

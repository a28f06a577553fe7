"""A real Prometheus scrapes a stack at work: every query of every dashboard and rule has an answer.

`PHJOB_PICTURES=FOLDER` draws the dashboards of the run into that folder.
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
from tests.support.builders import an_instance_type
from tests.support.hub import Hub, corner
from tests.support.pictures import draw
from tests.support.prometheus import Prometheus
from tests.support.scene import FOREVER, Scene
from tests.support.stacks import archiving_in
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
EXPRS = {
    rule.get("alert", rule.get("record")): rule["expr"]
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}


class Run(NamedTuple):
    """What was watched."""

    prometheus: Prometheus
    group: str
    since: float
    until: float


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A stack of its own, on which jobs have come to every kind of end."""
    state = tmp_path_factory.mktemp("monitored")
    capacity = {"nvidia.com/gpu": "100"}
    settings = state / "settings.yaml"
    archive = archiving_in(tmp_path_factory.mktemp("archive"))
    settings.write_text(archive + "jobSubmission: {preparingTimeoutSeconds: 3}\n")
    parts = (*PARTS, "prometheus")
    with (
        Stack(state, parts=parts, settings=settings, capacity=capacity, scrape_seconds=1) as stack,
        corner(stack) as hub,
    ):
        since = time.time()
        group = work(hub)
        prometheus = Prometheus.of(state)
        hold_an_admission_back(hub, prometheus)
        yield Run(prometheus, group, since, time.time())


def work(hub: Hub) -> str:
    """Keep two groups busy until every kind of thing has happened; the busier one's name."""
    vision = Scene(
        hub,
        "vision",
        {
            "groupQuota": {"gpu": 4, "cpu": 8, "memory": "16G"},
            "userQuota": {"gpu": 3, "cpu": 6, "memory": "12G"},
        },
    ).make()
    speech = Scene(
        hub, "speech", {"groupQuota": {"gpu": 2, "cpu": 4, "memory": "8G"}, "userQuota": {"cpu": 2}}
    ).make()
    nowhere = an_instance_type(hub.name("nowhere"), {"nodeSelector": {"no-node": "has-this"}})
    vision.grants(instance_types=tuple(hub.create(nowhere)))
    vision.notebook("jupyter", gpus=1, user="ann")
    stuck = vision.submit("stuck", instanceType=hub.name("nowhere"), user="pan")
    names = []
    for number in range(JOBS):
        for scene, users in ((vision, ("ann", "bob")), (speech, ("lin",))):
            user, fails = users[number % len(users)], number % 5 == 4
            names.append(
                scene.submit(f"{scene.name}-{number}", gpus=1, user=user, run_for="2s", exit_code=int(fails))
            )
    running = vision.submit("cancelled", user="pan", run_for=FOREVER)
    hub.reaches(running, "Running")
    hub.cancel(running)
    refused = vision.submit("refused", image="nowhere")
    eventually(lambda: hub.status(stuck)["requeued"] >= 2, "it was sent back twice")
    for name in (*names, running, refused):
        hub.reaches(name, "Succeeded", "Failed", "Cancelled", within=300)
    speech.submit("last", gpus=1, run_for=FOREVER)
    speech.submit("waits", gpus=2, user="kim")
    vision.submit("short-of-user-quota", gpus=4, user="ann") if PICTURES else None
    return vision.group


def hold_an_admission_back(hub: Hub, prometheus: Prometheus) -> None:
    """Until Prometheus has seen it: usually it lasts a few milliseconds."""
    hub.service("pod-manager").kill(signal.SIGSTOP)
    try:
        held = Scene(hub, "held").make().submit("held")
        eventually(lambda: prometheus.query("phjob_admissible_timestamp_seconds"), "it is held back")
    finally:
        hub.service("pod-manager").kill(signal.SIGCONT)
    hub.reaches(held, "Succeeded")


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_every_dashboard_has_an_answer(run: Run, query: str) -> None:
    """Else an operator would look at an empty panel and not know why."""
    expr = query.replace("$group", run.group)
    eventually(lambda: run.prometheus.over(expr, run.since, time.time()), f"{expr} has data", within=30)


@pytest.mark.parametrize("name", EXPRS)
def test_every_rule_names_metrics_that_there_are(run: Run, name: str) -> None:
    """An alert on a metric that nobody exports would never fire."""
    named = set(re.findall(r"\b((?:phjob|rabbitmq|process)[a-z0-9_:]+)\b", EXPRS[name]))
    eventually(
        lambda: not named - run.prometheus.names(),
        f"{named} are there",
        instead=lambda: named - run.prometheus.names(),
    )


def test_every_rule_is_evaluated_without_an_error_and_nothing_fires(run: Run) -> None:
    """All is well in this stack."""
    eventually(
        lambda: (
            {rule["name"]: rule["health"] for rule in run.prometheus.rules()} == dict.fromkeys(EXPRS, "ok")
        ),
        "all rules are ok",
        instead=run.prometheus.rules,
    )
    assert not run.prometheus.firing()
    assert run.prometheus.query("phjob:quota_drift")


def test_the_dashboards_on_record_are_those_of_the_code() -> None:
    """`make docs` makes them anew."""
    assert set(grafana.FOLDER.iterdir()) == grafana.files().keys()
    for file, content in grafana.files().items():
        assert file.read_text() == content
        json.loads(content)


@pytest.mark.parametrize("page", grafana.ALL, ids=lambda page: page.uid)
def test_a_dashboard_can_be_looked_at(run: Run, page: Dashboard, tmp_path: Path) -> None:
    """As a picture of this run."""
    file = Path(PICTURES or tmp_path) / f"{page.uid}.png"
    draw(page, run.prometheus, run.since, time.time(), run.group, file)
    assert file.read_bytes().startswith(b"\x89PNG")

"""The alerts, by Prometheus' own tool: their syntax, their unit tests, and a page for each."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.debian import PROMETHEUS_PACKAGES, require

ROOT = Path(__file__).parents[2]
RULES = ROOT / "k8s" / "monitoring" / "rules" / "phjob.yaml"
TESTS = ROOT / "k8s" / "monitoring" / "tests" / "phjob.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    """It comes with Prometheus."""
    require(PROMETHEUS_PACKAGES)


@pytest.mark.parametrize("command", [["check", "rules", RULES], ["test", "rules", TESTS]])
def test_promtool_is_content(command: list[str | Path]) -> None:
    """Each alert fires when it should, and not when it shouldn't."""
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_unit_test_both_ways_and_a_page(name: str) -> None:
    """An alert that nobody can read, or that was never seen to fire, is none."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    cases = [
        case["exp_alerts"]
        for t in tests
        for case in t.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    fires = [alerts for alerts in cases if alerts]
    assert fires
    quiet = [alerts for alerts in cases if not alerts]
    others = "quick" in str([t["input_series"] for t in tests if name in str(t)])
    assert quiet or others
    page = ALERTS[name]["annotations"]["runbook_url"]
    assert page == f"docs/runbooks/{name}.md"
    text = (ROOT / page).read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "Where to look", "What to do"]


def test_there_is_no_page_without_its_alert() -> None:
    """It would mislead."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == ALERTS.keys()

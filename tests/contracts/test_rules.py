"""The alerting rules: their syntax and their unit tests, checked by promtool, and their runbooks."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dev.debian import PROMETHEUS_PACKAGES, require

ROOT = Path(__file__).parents[2]
RULES = ROOT / "k8s" / "chart" / "monitoring" / "rules" / "phjob.yaml"
TESTS = ROOT / "k8s" / "chart" / "monitoring" / "tests" / "phjob.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    """Require promtool, which is part of Prometheus."""
    require(PROMETHEUS_PACKAGES)


@pytest.mark.parametrize("command", [["check", "rules", RULES], ["test", "rules", TESTS]])
def test_promtool_accepts_the_rules_and_their_unit_tests(command: list[str | Path]) -> None:
    """An alert that has a mistake in its expression never fires, or always."""
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_unit_tests_for_both_outcomes_and_a_runbook(name: str) -> None:
    """One test shows that it fires, and one that it does not."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    cases = [
        case["exp_alerts"]
        for t in tests
        for case in t.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    firing = [alerts for alerts in cases if alerts]
    assert firing, f"a unit test must show that {name} fires"
    quiet = [alerts for alerts in cases if not alerts]
    quiet_in_other_tests = "quick" in str([t["input_series"] for t in tests if name in str(t)])
    assert quiet or quiet_in_other_tests, f"a unit test must show that {name} does not fire"
    page = ALERTS[name]["annotations"]["runbook_url"]
    assert page == f"docs/runbooks/{name}.md"
    text = (ROOT / page).read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "Where to look", "What to do"]


def test_each_runbook_has_an_alert() -> None:
    """A runbook without one is left over from a renamed or a deleted alert."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == ALERTS.keys()

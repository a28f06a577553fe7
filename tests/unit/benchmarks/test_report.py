"""The report of a run of the benchmarks."""

import pytest
from pydantic import ValidationError
from tests.benchmarks.bounds import Bound, read_bounds, verdicts
from tests.benchmarks.cpu_usage import CpuUsage
from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.load import Load
from tests.benchmarks.report import as_json, as_markdown, as_page

RAW = [Figure("raw.limit", 200, "/s"), Figure("raw.create-and-patch", 4, "ms alone")]


def results(elsewhere: float = 0.0) -> list[Result]:
    """Return two results, while other programs used this share of a machine with one core."""
    usage = CpuUsage(seconds=10, by_component={"etcd": 5}, machine=5 + 10 * elsewhere, cores=1)
    rates = [Figure("burst.rate", 100, "jobs/s"), Figure("burst.inversions", 0, "jobs")]
    return [Result("raw", RAW, usage), Result("burst", rates, usage)]


@pytest.mark.parametrize(("value", "passed"), [(99.9, False), (100, True), (500, True)])
def test_a_bound_is_met_or_missed(value: float, passed: bool) -> None:  # noqa: FBT001 - a parameter
    """A figure that equals the bound meets it."""
    (verdict,) = verdicts({"burst.rate": value}, [Bound(figure="burst.rate", at_least=100, run="one")])
    assert verdict.passed is passed


def test_a_bound_may_concern_every_scenario() -> None:
    """There is one verdict for each figure whose name matches."""
    figures = {"burst.inversions": 0.0, "lives.inversions": 2.0, "lives.rate": 50.0}
    found = verdicts(figures, [Bound(figure="*.inversions", at_most=0, run="one")])
    assert {verdict.figure: verdict.passed for verdict in found} == {
        "burst.inversions": True,
        "lives.inversions": False,
    }


def test_a_bound_is_either_a_minimum_or_a_maximum() -> None:
    """It also names the run that it is based on."""
    with pytest.raises(ValidationError, match="either at_least or at_most"):
        Bound(figure="burst.rate", run="one")
    with pytest.raises(ValidationError):
        Bound.model_validate({"figure": "burst.rate", "at_least": 1})


def test_the_bounds_and_the_loads_can_be_read() -> None:
    """Each bound is based on a run, and every scale has every scenario."""
    assert all(bound.run for bound in read_bounds())
    assert {Load.of(scale).burst.groups for scale in ("full", "small", "tiny")}


def test_the_report_of_a_run_is_tables_with_pass_or_fail() -> None:
    """Beside each figure is its ratio to that of the API server alone."""
    judged = verdicts({"burst.rate": 100.0}, [Bound(figure="burst.rate", at_least=110, run="of March")])
    page = as_markdown({"Scale": "small"}, results(), judged)
    assert "| burst.rate at least 110 | 100 | **FAIL** | of March |" in page
    assert "| burst.rate | 100 | jobs/s | 0.50 |" in page
    assert "The machine was quiet." in page
    data = as_json({"Scale": "small"}, results(), judged)
    assert data["figures"]["burst.rate"] == {"value": 100, "unit": "jobs/s", "x_raw": 0.5}
    assert data["bounds"][0]["passed"] is False


def test_the_report_names_a_busy_machine() -> None:
    """With the share that other programs used, which makes the figures worse."""
    page = as_markdown({}, results(elsewhere=0.3), [])
    assert "busy with something else" in page
    assert "burst 30%" in page


def test_a_full_run_has_a_page_of_its_own() -> None:
    """Its title is the date, and it links to the explanation of the figures."""
    text = as_page("2026-11-26", "| burst.rate | 100 |\n")
    assert text.startswith("# Results of 2026-11-26\n")
    assert "performance.md#how-to-read-the-figures" in text
    assert text.endswith("| burst.rate | 100 |\n")

"""What a run of the benchmarks tells."""

import pytest
from pydantic import ValidationError
from tests.benchmarks.bounds import Bound, bounds, verdicts
from tests.benchmarks.figures import Figure, Result
from tests.benchmarks.load import Load
from tests.benchmarks.report import BEGIN, END, as_json, as_markdown, filled
from tests.benchmarks.usage import Usage

RAW = [Figure("raw.limit", 200, "/s"), Figure("raw.create-and-patch", 4, "ms alone")]


def results(elsewhere: float = 0.0) -> list[Result]:
    """Two scenarios, while others used that share of a machine with one core."""
    usage = Usage(seconds=10, by_component={"etcd": 5}, machine=5 + 10 * elsewhere, cores=1)
    rates = [Figure("burst.rate", 100, "jobs/s"), Figure("burst.inversions", 0, "jobs")]
    return [Result("raw", RAW, usage), Result("burst", rates, usage)]


@pytest.mark.parametrize(("value", "passed"), [(99.9, False), (100, True), (500, True)])
def test_a_bound_is_kept_or_not(value: float, passed: bool) -> None:  # noqa: FBT001 - a parameter
    """Its own value still keeps it."""
    (verdict,) = verdicts({"burst.rate": value}, [Bound(figure="burst.rate", at_least=100, run="one")])
    assert verdict.passed is passed


def test_a_bound_may_be_on_every_scenario() -> None:
    """One verdict for each figure of that end."""
    figures = {"burst.inversions": 0.0, "lives.inversions": 2.0, "lives.rate": 50.0}
    told = verdicts(figures, [Bound(figure="*.inversions", at_most=0, run="one")])
    assert {verdict.figure: verdict.passed for verdict in told} == {
        "burst.inversions": True,
        "lives.inversions": False,
    }


def test_a_bound_says_at_least_or_at_most() -> None:
    """Never both, nor neither; and it cites its run."""
    with pytest.raises(ValidationError, match="either at_least or at_most"):
        Bound(figure="burst.rate", run="one")
    with pytest.raises(ValidationError):
        Bound.model_validate({"figure": "burst.rate", "at_least": 1})


def test_the_bounds_and_the_loads_can_be_read() -> None:
    """Each bound rests on a run; every scale has every scenario."""
    assert all(bound.run for bound in bounds())
    assert {Load.of(scale).burst.groups for scale in ("full", "small", "tiny")}


def test_a_run_is_told_in_tables_with_pass_or_fail() -> None:
    """And with what the API server alone could do beside it."""
    judged = verdicts({"burst.rate": 100.0}, [Bound(figure="burst.rate", at_least=110, run="of March")])
    page = as_markdown({"Scale": "small"}, results(), judged)
    assert "| burst.rate at least 110 | 100 | **FAIL** | of March |" in page
    assert "| burst.rate | 100 | jobs/s | 0.50 |" in page
    assert "The machine was quiet." in page
    told = as_json({"Scale": "small"}, results(), judged)
    assert told["figures"]["burst.rate"] == {"value": 100, "unit": "jobs/s", "x_raw": 0.5}
    assert told["bounds"][0]["passed"] is False


def test_a_busy_machine_is_told() -> None:
    """With the share that others used."""
    page = as_markdown({}, results(elsewhere=0.3), [])
    assert "busy with something else" in page
    assert "burst 30%" in page


def test_the_page_keeps_what_stands_around_the_figures() -> None:
    """Filled in again and again, only the figures change."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = filled(page, "new\n")
    assert once == filled(once, "new\n")
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert "new" in once
    assert "old" not in once

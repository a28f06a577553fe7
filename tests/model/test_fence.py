"""The fence keeps a group's quota and the order of its jobs, and needs each of its rules for that.

`pytest tests/model --log-cli-level=INFO` shows the counterexample of each omitted rule.
"""

import logging
from functools import cache

import pytest
from tests.model.explore import Exploration, explore
from tests.model.fence import A, FenceModel, Promise, Rule, State
from tests.support.measurements import MeasurementReporter

MAX_STATES = 400_000
READABLE_STEPS = range(5, 25)
"""The number of steps of a counterexample that a reader can follow."""

ANY = "three sessions"
LATE = "two sessions, and commands that are published late"


def model(world: str, quota: int, *without: Rule) -> FenceModel:
    if world == LATE:
        return FenceModel(quota, *without, sessions=2, late_commands=True)
    return FenceModel(quota, *without, sessions=3)


@cache
def explored(world: str, quota: int) -> Exploration[State]:
    return explore(model(world, quota), MAX_STATES)


@pytest.mark.parametrize("world", [ANY, LATE])
@pytest.mark.parametrize("quota", [1, 2])
def test_the_fence_keeps_its_promises(
    world: str, quota: int, report_measurement: MeasurementReporter
) -> None:
    """No order of events breaks a promise, whatever is late, lost, redelivered or answered by a proxy."""
    found = explored(world, quota)
    assert found.counterexample is None, found.counterexample
    report_measurement(f"{len(found):,} states")


def test_the_model_admits_jobs() -> None:
    """A model in which nothing happens keeps every promise. The last session also admits after a takeover."""
    for job, other in ((0, 1), (1, 0)):
        assert any(
            s.jobs[job].is_preparing and not s.jobs[other].is_preparing for s in explored(ANY, 1).origins
        )
    last = [s for s in explored(ANY, 2).origins if s.session == 3 and s.takeovers == 2]
    assert any(s.jobs[A].is_preparing for s in last)


def test_the_answer_of_a_proxy_changes_nothing() -> None:
    """It is not definite. The worlds above have such answers, and the request is repeated."""
    steps = ((s, step) for s in explored(ANY, 2).origins for step in model(ANY, 2).steps(s))
    before, (_, after) = next((s, step) for s, step in steps if "a proxy rejects" in step[0])
    assert before == after


@pytest.mark.parametrize(
    ("rule", "world", "quota", "promise"),
    [
        (Rule.REPEAT, ANY, 1, Promise.QUOTA),
        (Rule.REPEAT, ANY, 2, Promise.ORDER),
        (Rule.DEFINITE_ANSWER, ANY, 1, Promise.QUOTA),
        (Rule.DEFINITE_ANSWER, ANY, 2, Promise.ORDER),
        (Rule.FENCE_WAITS, ANY, 1, Promise.QUOTA),
        (Rule.NO_SESSION, LATE, 1, Promise.QUOTA),
        (Rule.SETTLE, ANY, 1, Promise.QUOTA),
        (Rule.END_SESSION, ANY, 2, Promise.ORDER),
        (Rule.GAP, ANY, 2, Promise.ORDER),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_no_rule_can_be_left_out(
    rule: Rule, world: str, quota: int, promise: Promise, report_measurement: MeasurementReporter
) -> None:
    """Without the rule, some order of events breaks a promise. With it, none does in the same world."""
    broken = explore(model(world, quota, rule), MAX_STATES).counterexample
    assert broken is not None
    assert broken.problem == promise
    assert len(broken.steps) in READABLE_STEPS
    logging.getLogger(__name__).info("without %r: %s", rule.value, broken)
    report_measurement(f"broken in {len(broken.steps)} steps")

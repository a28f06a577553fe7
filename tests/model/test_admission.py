"""The admission of a job keeps its promises whatever is late, and needs each of its rules for that.

`pytest tests/model --log-cli-level=INFO` shows the counterexample of each omitted rule.
"""

import logging
from collections.abc import Iterable
from functools import cache

import pytest
from tests.model.admission import AdmissionModel, Promise
from tests.model.admission_rules import Rule
from tests.model.admission_state import End, Job, Phase, State
from tests.model.explore import Exploration, Trace, explore, find_stranded
from tests.support.measurements import MeasurementReporter

MAX_STATES = 100_000
MAX_STEPS = 20
"""The number of steps of the longest counterexample that a reader can follow."""

ALONE = "no third party deletes pods"
THIRD_PARTY = "a third party deletes pods, and the job may be retried once"


def model(world: str, *without: Rule, promises: Iterable[Promise] = Promise, size: int = 3) -> AdmissionModel:
    """Return a model with at most `size` commands and `size` pods."""
    third_party = world == THIRD_PARTY
    return AdmissionModel(
        *without,
        third_party=third_party,
        promises=promises,
        commands=size,
        pods=size,
        retries=int(third_party),
    )


@cache
def explored(world: str) -> Exploration[State]:
    return explore(model(world), MAX_STATES)


@pytest.mark.parametrize("world", [ALONE, THIRD_PARTY])
def test_the_admission_keeps_its_promises(world: str, report_measurement: MeasurementReporter) -> None:
    """No order of events breaks a promise, however late a request arrives."""
    found = explored(world)
    assert found.counterexample is None, found.counterexample
    report_measurement(f"{len(found):,} states")


@pytest.mark.parametrize("world", [ALONE, THIRD_PARTY])
def test_no_pod_is_left_behind(world: str) -> None:
    """From every state, running services and kubelets bring the job to rest, with no pod left.

    That needs no memory, because every pod-manager may have been replaced.
    """
    protocol = model(world)
    stranded = find_stranded(explored(world), protocol.certain_steps, protocol.is_at_rest)
    assert stranded is None, stranded


def test_the_model_requeues_and_admits_again() -> None:
    """A model in which nothing happens keeps every promise. In some run, a job ends with its second pod."""
    states = explored(ALONE).origins
    assert any(s.job.phase is Phase.PENDING and s.job.fence == 1 for s in states)
    again = Job(Phase.FINAL, fence=2, pod=2, end=End.BY_POD)
    assert any(s.job == again and s.starts for s in states)


def test_the_model_retries_and_admits_again() -> None:
    """In some run, the command ends twice, and in none it starts again after that."""
    states = explored(THIRD_PARTY).origins
    again = Job(Phase.FINAL, fence=2, pod=2, end=End.BY_POD, retried=1)
    assert any(s.job == again and s.starts == s.ended == 2 for s in states)
    assert max(s.starts for s in states) == 2


def test_every_allowed_request_may_be_late() -> None:
    """In every state, the model keeps each request that the rules allow."""
    rules = model(ALONE).rules
    assert all({*rules.requests(s)} <= {*s.allowed} for s in explored(ALONE).origins)


@pytest.mark.parametrize(
    ("rule", "world", "promise"),
    [
        (Rule.GATE, ALONE, Promise.NAMED),
        (Rule.GATE, ALONE, Promise.ONE_START),
        (Rule.UNGATE_UID, ALONE, Promise.NAMED),
        (Rule.UNGATE_UID, ALONE, Promise.ONE_START),
        (Rule.NAME_POD, THIRD_PARTY, Promise.NAMED),
        (Rule.NAME_POD, THIRD_PARTY, Promise.ONE_START),
        (Rule.ABSENCE, THIRD_PARTY, Promise.NO_RETURN),
        (Rule.ABSENCE, THIRD_PARTY, Promise.ONE_START),
        (Rule.FRESH_READ, ALONE, Promise.NAMED),
        (Rule.FRESH_READ, ALONE, Promise.REQUEUED),
        (Rule.LAST_STATE, ALONE, Promise.NAMED),
        (Rule.LAST_STATE, ALONE, Promise.ONE_START),
        (Rule.KUBELET, THIRD_PARTY, Promise.NAMED),
        (Rule.KUBELET, THIRD_PARTY, Promise.ONE_START),
        (Rule.FINALIZER, ALONE, Promise.NO_RETURN),
        (Rule.FINALIZER, ALONE, Promise.ONE_START),
        (Rule.FINALIZER, ALONE, Promise.REQUEUED),
        (Rule.NOT_FOUND, THIRD_PARTY, Promise.NO_RETURN),
        (Rule.NOT_FOUND, THIRD_PARTY, Promise.ONE_START),
        (Rule.WRITE_FIRST, ALONE, Promise.REQUEUED),
        (Rule.JOB_LAST, ALONE, Promise.REQUEUED),
        (Rule.UNCHANGED, ALONE, Promise.RUNS_ON),
        (Rule.SETTLE, ALONE, Promise.REQUEUED),
        (Rule.SETTLE, ALONE, Promise.RUNS_ON),
        (Rule.ROOM, ALONE, Promise.ROOM),
        (Rule.ENDED, THIRD_PARTY, Promise.NO_RETURN),
        (Rule.ENDED, THIRD_PARTY, Promise.ALONE),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_no_rule_can_be_left_out(
    rule: Rule, world: str, promise: Promise, report_measurement: MeasurementReporter
) -> None:
    """Without the rule, some order of events breaks a promise. With it, none does in the same world."""
    found = explore(model(world, rule, promises=[promise], size=2), MAX_STATES)
    report(rule, found.counterexample, report_measurement)


def test_any_pod_manager_removes_a_finalizer(report_measurement: MeasurementReporter) -> None:
    """Without that rule, a finalizer that arrives late keeps the pod of a final job forever."""
    protocol = model(ALONE, Rule.RELEASE, size=2)
    found = explore(protocol, MAX_STATES)
    report(
        Rule.RELEASE, find_stranded(found, protocol.certain_steps, protocol.is_at_rest), report_measurement
    )


def report(rule: Rule, broken: Trace | None, report_measurement: MeasurementReporter) -> None:
    assert broken is not None
    assert len(broken.steps) <= MAX_STEPS
    logging.getLogger(__name__).info("without %r: %s", rule.value, broken)
    report_measurement(f"broken in {len(broken.steps)} steps")

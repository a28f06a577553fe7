import json
from typing import Any

import pytest
from tests.fakes.facts import START, a_job, a_pod

from phjob_core.api import Phase, PodPhase
from phjob_core.messages import (
    CONTAINER_STATUS_UNKNOWN,
    DELETED_BY_POD_GC,
    MESSAGES,
    Heartbeat,
    JobSeen,
    Message,
    UndecodableError,
    decode,
    encode,
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_a_kind_is_explicit_and_equals_the_class_name(message: type[Message]) -> None:
    """It is on the wire: a class that is renamed must keep its kind, and then leave this test."""
    assert vars(message)["kind"] == message.__name__


def test_kinds_are_unique() -> None:
    """Otherwise a message could be decoded as another."""
    assert len({message.kind for message in MESSAGES}) == len(MESSAGES)


def test_a_body_contains_only_what_differs_from_the_defaults() -> None:
    """Most fields of most jobs have their default, and a snapshot has 100,000 jobs."""
    kind, body = encode(Heartbeat())
    assert (kind, json.loads(body)) == ("Heartbeat", {})


def test_a_message_survives_encoding_and_decoding() -> None:
    """Times keep their time zone, and enumerations their type."""
    job = a_job(phase=Phase.RUNNING, start_time=START, resources={"cpu": 500})
    decoded = decode(*encode(job))
    assert decoded == job
    assert isinstance(decoded, JobSeen)
    assert decoded.phase is Phase.RUNNING


def test_an_undecodable_message_is_rejected_with_its_problem() -> None:
    """An operator finds the text in the dead-letter queue."""
    with pytest.raises(UndecodableError, match="unknown message kind 'Party'"):
        decode("Party", b"{}")
    with pytest.raises(UndecodableError, match=r"Heartbeat: .* - at `\$.sent`"):
        decode("Heartbeat", b'{"sent": "noon"}')


UNKNOWN_END = {"exit_code": 137, "reason": CONTAINER_STATUS_UNKNOWN}
COLLECTED = {"disruption": f"{DELETED_BY_POD_GC}: node not found"}


@pytest.mark.parametrize(
    ("fields", "started", "over", "never_started"),
    [
        pytest.param({}, False, False, False, id="waits"),
        pytest.param({"node": "n"}, False, False, False, id="is prepared"),
        pytest.param({"node": "n", "start_time": START}, True, False, False, id="runs"),
        pytest.param({"phase": PodPhase.SUCCEEDED, "exit_code": 0}, True, True, False, id="succeeded"),
        pytest.param({"phase": PodPhase.SUCCEEDED}, False, True, False, id="succeeded without a code"),
        pytest.param({"phase": PodPhase.FAILED, "exit_code": 1}, True, True, False, id="failed"),
        pytest.param({"phase": PodPhase.FAILED, "reason": "OutOfcpu"}, False, True, True, id="rejected"),
        pytest.param({"phase": PodPhase.FAILED, **UNKNOWN_END}, False, True, True, id="end not observed"),
        pytest.param({"deleting": True}, False, True, True, id="deleted without a node"),
        pytest.param({"deleting": True, "node": "n"}, False, False, False, id="deleted on a node"),
        pytest.param(
            {"phase": PodPhase.FAILED, "node": "n", **COLLECTED}, False, True, False, id="collected"
        ),
        pytest.param(
            {"phase": PodPhase.FAILED, **COLLECTED}, False, True, True, id="collected without a node"
        ),
    ],
)
def test_only_a_state_that_proves_it_means_that_a_pod_never_started(
    fields: dict[str, Any], *, started: bool, over: bool, never_started: bool
) -> None:
    """A job is requeued only with this proof; otherwise its command could run twice (spec.md, L6)."""
    pod = a_pod(a_job(), **fields)
    assert (pod.started, pod.over, pod.never_started) == (started, over, never_started)

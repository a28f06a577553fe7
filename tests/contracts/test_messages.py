"""The messages on the wire: services of different versions understand each other."""

import json
from pathlib import Path

import msgspec
import pytest
from tests.fakes.facts import a_job

from phjob_core import messages
from phjob_core.kinds import KINDS
from phjob_core.messages import MESSAGES, JobSeen, Message, UndecodableError, decode, encode

GOLDEN = json.loads((Path(__file__).parent / "messages.v1.json").read_text())
"""One message of each kind, as version 1 wrote it. Only additions are allowed."""


@pytest.mark.parametrize("kind", [model.kind for model in MESSAGES])
def test_every_kind_of_message_has_an_example_of_its_first_form(kind: str) -> None:
    """Without it, no test would fail for a change that an old service cannot read."""
    assert kind in GOLDEN, f"messages.v1.json must have an example of {kind}"


REMOVED_FIELDS = {"PodSeen": {"message"}}
"""The fields that version 1 had, by kind. A body with one of them still decodes."""


@pytest.mark.parametrize("kind", GOLDEN)
def test_an_old_message_decodes_to_its_fields(kind: str) -> None:
    """Old and new services run side by side during an upgrade."""
    message = decode(kind, json.dumps(GOLDEN[kind]).encode())
    fields = json.loads(msgspec.json.encode(msgspec.structs.asdict(message)))
    kept = {name: value for name, value in GOLDEN[kind].items() if name not in REMOVED_FIELDS.get(kind, ())}
    assert {name: fields[name] for name in kept} == kept


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_message_is_the_same_after_encoding_and_decoding(kind: str) -> None:
    """Encoding omits fields with their default values, and decoding restores them."""
    message = decode(kind, json.dumps(GOLDEN[kind]).encode())
    assert decode(*encode(message)) == message


def test_an_old_service_ignores_a_field_that_it_does_not_know() -> None:
    """A newer service may send one at any time."""
    body = {**GOLDEN["JobSeen"], "mood": "good"}
    assert isinstance(decode("JobSeen", json.dumps(body).encode()), JobSeen)


@pytest.mark.parametrize(
    ("kind", "body"), [("JobSeen", b"{}"), ("JobSeen", b"\xff"), ("Party", b"{}"), (None, b"{}")]
)
def test_decoding_an_invalid_message_fails_with_a_reason(kind: str | None, body: bytes) -> None:
    """The message becomes a dead letter with this reason."""
    with pytest.raises(UndecodableError, match=r"JobSeen: .+|unknown message kind"):
        decode(kind, body)


def test_no_message_has_a_field_for_a_jobs_command_or_a_datasets_values() -> None:
    """They may contain secrets, which must not get into the broker."""
    fields = {field for model in MESSAGES for field in model.__struct_fields__}
    assert not fields & {"command", "variables", "env"}


SECRET = "hunter2"
STATE = {"exitCode": 1, "reason": "Error", "message": SECRET, "startedAt": "2026-01-01T00:00:01Z"}
A_METADATA = {
    "name": "x",
    "uid": "u",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "labels": {"primehub.io/group": "escaped-phusers"},
    "annotations": {"note": SECRET, "kubectl.kubernetes.io/last-applied-configuration": SECRET},
    "managedFields": [{"manager": SECRET}],
}
PRIVATE = {
    "phjobs": {
        "metadata": A_METADATA,
        "spec": {
            "command": SECRET, "displayName": SECRET, "userId": SECRET,
            "groupName": "g", "userName": "u", "image": "i", "instanceType": "t",
        },
        "status": {"phase": "Failed", "reason": "Error", "message": SECRET},
    },
    "pods": {
        "metadata": A_METADATA,
        "spec": {
            "containers": [
                {"name": "main", "command": [SECRET], "env": [{"name": "A", "value": SECRET}], "args": []}
            ]
        },
        "status": {
            "phase": "Failed",
            "message": SECRET,
            "containerStatuses": [{"name": "main", "state": {"terminated": STATE}}],
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "R", "message": SECRET}],
        },
    },
    "datasets": {"metadata": A_METADATA, "spec": {"type": "env", "variables": {"KEY": SECRET}}},
    "images": {"metadata": A_METADATA, "spec": {"url": "i", "pullSecret": SECRET, "description": SECRET}},
}  # fmt: skip
"""An object of each kind that may contain secrets, with one in every field that is not for the services."""


@pytest.mark.parametrize("plural", PRIVATE)
def test_no_fact_contains_a_secret_of_its_object(plural: str) -> None:
    """Whatever is in a fact is on RabbitMQ's disk, and may become a dead letter (spec.md, E7)."""
    (kind,) = (kind for kind in KINDS if kind.plural == plural)
    _, body = encode(kind.project(PRIVATE[plural], None))
    assert SECRET not in body.decode()


def test_a_message_is_immutable() -> None:
    """The same object is sent to several queues."""
    job = a_job()
    with pytest.raises(AttributeError, match="immutable"):
        job.name = "other"  # type: ignore[misc]
    assert issubclass(messages.Fact, Message)

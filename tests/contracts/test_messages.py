import json
from pathlib import Path
from typing import get_args

import pytest
from tests.unit.facts import a_job

from shared import messages
from shared.messages import AnyMessage, JobSeen, Message, UndecodableError, decode, encode

GOLDEN = json.loads((Path(__file__).parent / "messages.v1.json").read_text())
"""One message of each kind as version 1 wrote it. Never edited: only added to."""


@pytest.mark.parametrize("kind", [model.__name__ for model in get_args(AnyMessage)])
def test_every_kind_of_message_has_its_first_form_on_record(kind: str) -> None:
    """Else nobody would notice a change that an old service can't read."""
    assert kind in GOLDEN


@pytest.mark.parametrize("kind", GOLDEN)
def test_an_old_message_still_decodes_to_what_it_said(kind: str) -> None:
    """Old and new services run side by side during an upgrade."""
    message = decode(kind, json.dumps(GOLDEN[kind]).encode())
    said = json.loads(message.model_dump_json())
    assert {field: said[field] for field in GOLDEN[kind]} == GOLDEN[kind]


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_message_survives_the_way(kind: str) -> None:
    """Encoding leaves out what is a default, decoding puts it back."""
    message = decode(kind, json.dumps(GOLDEN[kind]).encode())
    assert decode(*encode(message)) == message


def test_an_old_service_ignores_what_a_newer_one_adds() -> None:
    """A field may be added at any time."""
    body = {**GOLDEN["JobSeen"], "mood": "good"}
    assert isinstance(decode("JobSeen", json.dumps(body).encode()), JobSeen)


@pytest.mark.parametrize(
    ("kind", "body"), [("JobSeen", b"{}"), ("JobSeen", b"\xff"), ("Party", b"{}"), (None, b"{}")]
)
def test_what_is_no_message_is_refused_with_a_reason(kind: str | None, body: bytes) -> None:
    """It goes to the dead-letter queue."""
    with pytest.raises(UndecodableError, match=r"JobSeen: .+|unknown message kind"):
        decode(kind, body)


def test_no_message_can_hold_a_command_or_a_datasets_values() -> None:
    """Secrets stay out of the broker."""
    fields = {field for model in get_args(AnyMessage) for field in model.model_fields}
    assert not fields & {"command", "variables", "env"}


def test_a_message_cannot_be_changed_once_it_is_made() -> None:
    """It is shared by every queue that it is sent to."""
    job = a_job()
    with pytest.raises(ValueError, match="frozen"):
        job.name = "other"  # type: ignore[misc]
    assert issubclass(messages.Fact, Message)

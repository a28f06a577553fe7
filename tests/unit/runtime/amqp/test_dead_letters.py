"""Dead letters: what a service writes about one, and what the command shows of it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp.commands import Basic

from phjob_runtime.amqp import dead_letters
from phjob_runtime.amqp.authorship import AuthorshipError, BrokerUsers
from phjob_runtime.amqp.batching import BATCH, Part
from phjob_runtime.amqp.dead_letters import DeadLetter, selected

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
USER = "pod-manager"
USERS = BrokerUsers.of("operator", "operator")


@dataclass
class Incoming:
    """A message in `phjob.dead`, as the client library delivers it."""

    body: bytes = b"{}"
    headers: dict[str, Any] = field(default_factory=dict)
    app_id: str | None = "scheduler"
    message_id: str | None = "session 5"
    type: str | None = "Admit"
    content_type: str | None = "application/vnd.phjob.v1+json"
    user_id: str | None = "scheduler"


@pytest.fixture(autouse=True)
def _enable_logging() -> Iterator[None]:
    """Enable logging after each test. The command disables it for its whole process."""
    yield
    logging.disable(logging.NOTSET)


def a_letter(**fields: Any) -> DeadLetter:
    return DeadLetter.of(Incoming(**fields))  # type: ignore[arg-type]


def a_part(kind: str = "Admit", message_type: str = "Admit") -> Part:
    properties = Basic.Properties(
        app_id="scheduler",
        message_id="session 5",
        message_type=message_type,
        expiration="1000",
        user_id="hub-scheduler",
    )
    return Part(kind, b"{}", "session", 6, False, properties)  # noqa: FBT003 - not redelivered


def test_a_dead_letter_has_its_queue_reason_time_and_author() -> None:
    """An operator needs them to find out what failed. The service that writes it bears witness."""
    properties = dead_letters.properties_of(a_part(), "pod-manager.0", "ZeroDivisionError", NOW, USER)
    assert properties.headers == {
        "queue": "pod-manager.0",
        "reason": "ZeroDivisionError",
        "time": NOW,
        "user": "hub-scheduler",
    }
    assert properties.user_id == USER
    assert (properties.app_id, properties.message_id, properties.message_type) == (
        "scheduler",
        "session 5",
        "Admit",
    )


def test_a_dead_letter_has_no_property_that_takes_effect_again() -> None:
    """RabbitMQ would drop it when it expires."""
    assert dead_letters.properties_of(a_part(), "pod-manager.0", "", NOW, USER).expiration is None


def test_a_dead_letter_from_a_batch_has_its_own_kind_and_sequence_number() -> None:
    """Not those of the batch, whose first message may be a good one."""
    properties = dead_letters.properties_of(a_part("JobSeen", BATCH), "janitor.0", "", NOW, USER)
    assert (properties.message_type, properties.message_id) == ("JobSeen", "session 6")


def test_a_long_reason_is_cut() -> None:
    """RabbitMQ limits the size of headers."""
    properties = dead_letters.properties_of(a_part(), "janitor.0", "x" * 10**6, NOW, USER)
    assert properties.headers is not None
    assert properties.headers["reason"] == "x" * dead_letters.MAX_REASON_CHARS


def test_our_own_headers_come_before_rabbitmqs() -> None:
    """RabbitMQ adds its own to a dead letter that died again."""
    death = {"queue": "scheduler.0", "reason": "maxlen", "time": NOW}
    ours = {"queue": "janitor.0", "reason": "ZeroDivisionError", "time": NOW}
    letter = a_letter(headers={**ours, "x-death": [death]})
    assert (letter.queue, letter.reason, letter.time) == ("janitor.0", "ZeroDivisionError", NOW)


def test_a_message_that_rabbitmq_gave_up_is_explained() -> None:
    """`delivery_limit` means nothing to an operator."""
    death = {"queue": "scheduler.0", "reason": "delivery_limit", "time": NOW}
    letter = a_letter(headers={"x-death": [death]})
    assert letter.queue == "scheduler.0"
    assert letter.reason.startswith("20 deliveries failed")


def test_a_message_of_another_program_has_unknown_properties() -> None:
    """Anybody with the right may publish to the exchange."""
    letter = a_letter(type=None, app_id=None, message_id=None, user_id=None)
    assert (letter.queue, letter.reason, letter.time) == ("", "unknown", None)
    assert letter.text(USERS).splitlines()[:2] == [
        f"{letter.id}  ?  ?  ? from ?",
        "    author: not proven, because its publisher '' is not a service",
    ]


def test_the_text_has_everything_on_three_lines() -> None:
    """One glance at a terminal."""
    headers = {"queue": "pod-manager.0", "reason": "bad", "time": NOW, "user": "scheduler"}
    letter = a_letter(headers=headers, body=b'{"uid": "u"}', user_id="pod-manager")
    assert letter.text(USERS) == (
        f"{letter.id}  2026-01-01 12:30:00Z  pod-manager.0  Admit from scheduler\n"
        "    reason: bad\n"
        '    body:   {"uid": "u"} (12 bytes)'
    )


def test_the_text_cannot_control_a_terminal() -> None:
    """The body, the reason and the names are whatever somebody has sent."""
    headers = {"reason": "\x07", "queue": "\x1b", "user": "\n"}
    letter = a_letter(body=b"\x1b[2J\xff\n", headers=headers, type="\r", user_id="\n")
    assert all(char.isprintable() or char == "\n" for char in letter.text(USERS))
    assert len(letter.text(USERS).splitlines()) == 4


def test_a_long_body_is_shown_in_part() -> None:
    """With its size."""
    text = a_letter(body=b"x" * 5000).text(USERS)
    assert text.endswith(f"{'x' * dead_letters.MAX_SHOWN_CHARS}... (5000 bytes)")


def test_an_id_stays_the_same_and_differs_between_messages() -> None:
    """`replay` selects by the ids that `show` has printed."""
    assert a_letter().id == a_letter().id
    assert a_letter().id != a_letter(body=b"{ }").id
    assert a_letter().id != a_letter(message_id="session 6").id


@pytest.mark.parametrize(
    ("headers", "writer"),
    [
        ({"queue": "pod-manager.0", "user": "scheduler"}, "pod-manager"),
        ({"x-death": [{"queue": "pod-manager.0", "reason": "delivery_limit"}]}, "scheduler"),
    ],
    ids=["by its receiver", "by RabbitMQ"],
)
def test_a_dead_letter_of_a_witness_has_a_proven_author(headers: dict[str, Any], writer: str) -> None:
    """The receiver bears witness, or RabbitMQ itself (spec.md, E6)."""
    a_letter(headers=headers, user_id=writer).check_author(USERS)


@pytest.mark.parametrize(
    ("headers", "writer", "problem"),
    [
        ({"queue": "pod-manager.0", "user": "scheduler"}, "janitor", "'janitor', not of pod-manager's"),
        ({"queue": "pod-manager.0", "user": "scheduler"}, "", "'', not of pod-manager's"),
        ({"queue": "janitor.0", "user": "janitor"}, "janitor", "names scheduler as its publisher"),
        ({"queue": "janitor.0"}, "janitor", "names scheduler as its publisher, but an unknown user"),
        ({"x-death": [{"queue": "pod-manager.0"}]}, "janitor", "names scheduler as its publisher"),
        ({"x-death": [{"queue": "pod-manager.0"}]}, None, "an unknown user sent it"),
    ],
)
def test_a_forged_dead_letter_has_no_proven_author(
    headers: dict[str, Any], writer: str | None, problem: str
) -> None:
    """A stolen service can write anything to `phjob.dead`, and the operator must not replay it."""
    with pytest.raises(AuthorshipError, match=problem):
        a_letter(headers=headers, user_id=writer).check_author(USERS)


def test_a_copy_is_of_its_author_and_has_no_headers() -> None:
    """A replayed message must look like the first delivery."""
    copy = a_letter(headers={"queue": "janitor.0", "reason": "bad", "user": "hub-scheduler"}).copy()
    assert (copy.headers, copy.user_id) == ({}, "hub-scheduler")
    assert (copy.app_id, copy.message_id, copy.type, copy.body) == ("scheduler", "session 5", "Admit", b"{}")


def test_dead_letters_are_selected_by_queue_and_by_id() -> None:
    """Without either, all of them are."""
    first = a_letter(headers={"queue": "janitor.0"})
    second = a_letter(headers={"queue": "scheduler.0"})
    assert selected([first, second], None, []) == [first, second]
    assert selected([first, second], "janitor.0", []) == [first]
    assert selected([first, second], None, [second.id, "0123456789"]) == [second]
    assert selected([first, second], "janitor.0", [second.id]) == []


def test_the_command_needs_a_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the variable and the option, and ends with exit code 2."""
    monkeypatch.delenv("AMQP_URL", raising=False)
    with pytest.raises(SystemExit) as exit_:
        dead_letters.main(["show"])
    assert exit_.value.code == 2
    assert "set AMQP_URL, or use --url" in capsys.readouterr().err


def test_a_bad_url_is_reported_without_any_part_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The output may be recorded."""
    assert dead_letters.main(["show", "--url", "amqp://operator:1234/PASS@broker/hub"]) == 2
    assert capsys.readouterr().err.startswith("the URL of RabbitMQ: Value error, the user or")

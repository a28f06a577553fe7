"""Dead letters: how a service describes one, and a command that shows and replays them.

`python -m phjob_runtime.amqp.dead_letters show|replay [--queue QUEUE] [--url URL] [ID ...]` is for
operators. It needs the right to read `phjob.dead`, to write to the services' exchanges, and to publish in the
name of the services (`definitions`).

The command removes a message only after RabbitMQ has confirmed its copy. If the command is interrupted in
between, the message exists twice; it is never lost. The services recognize a message that they had before.

A replay publishes a message as its author again. Every service may write to `phjob.dead`, so the author has
to be proven: RabbitMQ has verified it, or the service that received the message has. Without this, a stolen
service could forge a message of another, and wait for the operator to replay it.
"""

import argparse
import asyncio
import hashlib
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError
from aiormq.exceptions import ChannelAccessRefused
from pamqp.commands import Basic

from phjob_core.errors import SettingsError, UnreachableError
from phjob_core.text import escape_controls
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.authorship import DEFAULT_USER, AuthorshipError, BrokerUsers
from phjob_runtime.amqp.batching import Part
from phjob_runtime.settings import parse_broker_url

TIMEOUT_SECONDS = 10.0
"""The time that RabbitMQ may take for one answer."""
MAX_REASON_CHARS = 2000
"""The length of the reason in a dead letter's headers."""
MAX_SHOWN_CHARS = 300
"""The length of a body that is shown."""
_RABBITMQ_REASONS = {
    "delivery_limit": (
        f"{topology.DELIVERY_LIMIT} deliveries failed, because its consumers stopped or lost their connection"
    ),
}
"""RabbitMQ's own reasons, for people."""


def properties_of(part: Part, queue: str, reason: str, now: datetime, user: str) -> Basic.Properties:
    """Return the properties of a dead letter that `user` publishes.

    They identify the message and its author, and contain the reason, the queue and the time.
    Other properties are not copied, because an expiration would take effect again.
    """
    return Basic.Properties(
        app_id=part.properties.app_id,
        content_type=part.properties.content_type,
        delivery_mode=2,
        message_id=part.message_id,
        message_type=part.kind,
        user_id=user,
        headers={
            "queue": queue,
            "reason": reason[:MAX_REASON_CHARS],
            "time": now,
            "user": part.properties.user_id or "",
        },
    )


@dataclass(frozen=True)
class DeadLetter:
    """One message in `phjob.dead`, and why it is there."""

    id: str
    queue: str
    """The queue in which it was; empty if that is unknown."""
    reason: str
    time: datetime | None
    kind: str
    publisher: str
    user: str
    """RabbitMQ's user that has published the message; empty if that is unknown."""
    witness: str
    """The user that states this, because it has received the message; empty if RabbitMQ itself does."""
    body: bytes
    message: AbstractIncomingMessage

    @classmethod
    def of(cls, message: AbstractIncomingMessage) -> "DeadLetter":
        """Return the dead letter in a message, by our own headers, otherwise RabbitMQ's."""
        headers: Mapping[str, Any] = message.headers
        deaths = headers.get("x-death")
        death: Mapping[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}
        reason = headers.get("reason") or death.get("reason") or ""
        time = headers.get("time") or death.get("time")
        queue = headers.get("queue") or death.get("queue") or ""
        writer = message.user_id or ""
        parts = (queue, message.message_id, message.app_id, message.type, time, message.body)
        return cls(
            id=hashlib.sha256(repr(parts).encode()).hexdigest()[:10],
            queue=str(queue),
            reason=_RABBITMQ_REASONS.get(str(reason), str(reason)) or "unknown",
            time=time if isinstance(time, datetime) else None,
            kind=message.type or "",
            publisher=message.app_id or "",
            user=str(headers.get("user", "")) if "queue" in headers else writer,
            witness=writer if "queue" in headers else "",
            body=message.body,
            message=message,
        )

    def text(self, users: BrokerUsers) -> str:
        """Return the lines for a terminal, with control characters escaped."""
        body = self.body[: MAX_SHOWN_CHARS * 4].decode(errors="replace")
        shown = body[:MAX_SHOWN_CHARS] + ("..." if len(body) > MAX_SHOWN_CHARS else "")
        time = f"{self.time:%Y-%m-%d %H:%M:%S}Z" if self.time else "?"
        queue, kind, publisher = (
            escape_controls(text) or "?" for text in (self.queue, self.kind, self.publisher)
        )
        author = ""
        try:
            self.check_author(users)
        except AuthorshipError as error:
            author = f"    author: not proven, because {escape_controls(str(error))}\n"
        return (
            f"{self.id}  {time}  {queue}  {kind} from {publisher}\n{author}"
            f"    reason: {escape_controls(self.reason)}\n"
            f"    body:   {escape_controls(shown)} ({len(self.body)} bytes)"
        )

    def check_author(self, users: BrokerUsers) -> None:
        """Check that the author of the message is proven.

        A service can bear witness only for what it has received itself, which is in its own queue.

        Raises:
            AuthorshipError: it is not.

        """
        receiver = topology.service_of(self.queue)
        if "queue" in self.message.headers and self.witness != users.user_of(receiver):
            raise AuthorshipError(f"its headers are of the user {self.witness!r}, not of {receiver}'s")
        users.author(self.publisher, self.user)

    def copy(self) -> aio_pika.Message:
        """Return the message as it was first published, without a dead letter's headers."""
        message = self.message
        return aio_pika.Message(
            self.body,
            app_id=message.app_id,
            content_type=message.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message.message_id,
            type=message.type,
            user_id=self.user,
        )


async def fetch(channel: AbstractChannel) -> list[DeadLetter]:
    """Return what is in `phjob.dead` now, oldest first.

    Each stays there until it is acknowledged.

    Raises:
        UnreachableError: the queue does not exist, or this user may not read it.

    """
    try:
        queue = await channel.get_queue(topology.DEAD_LETTER_QUEUE)
        found = []
        for _ in range(queue.declaration_result.message_count or 0):
            message = await queue.get(fail=False, timeout=TIMEOUT_SECONDS)
            if message is None:
                break  # Another consumer took it.
            found.append(DeadLetter.of(message))
    except ChannelNotFoundEntity as error:
        raise UnreachableError(
            f"RabbitMQ has no queue {topology.DEAD_LETTER_QUEUE}: is it the right virtual host?"
        ) from error
    except ChannelAccessRefused as error:
        raise UnreachableError(
            f"this user may not read {topology.DEAD_LETTER_QUEUE}; the operator may"
        ) from error
    return found


def selected(letters: Iterable[DeadLetter], queue: str | None, ids: Sequence[str]) -> list[DeadLetter]:
    """Return the dead letters of the queue with one of the ids.

    None and no ids select all.
    """
    return [
        letter
        for letter in letters
        if (queue is None or letter.queue == queue) and (not ids or letter.id in ids)
    ]


async def replay(channel: AbstractChannel, letter: DeadLetter, users: BrokerUsers) -> None:
    """Publish a dead letter to its queue as its author, then remove it.

    Raises:
        AuthorshipError: its author is not proven, so it stays in `phjob.dead`.
        UnreachableError: RabbitMQ did not accept it, so it stays in `phjob.dead`.

    """
    if not letter.queue:
        raise UnreachableError("its queue is unknown")
    letter.check_author(users)
    try:
        exchange = await channel.get_exchange(topology.exchange_of(letter.queue), ensure=False)
        await exchange.publish(letter.copy(), letter.queue, mandatory=True, timeout=TIMEOUT_SECONDS)
    except ChannelPreconditionFailed as error:
        raise UnreachableError(
            f"this user may not publish for others; give it RabbitMQ's tag impersonator: {error}"
        ) from error
    except (DeliveryError, AMQPError, TimeoutError) as error:
        raise UnreachableError(f"RabbitMQ did not accept it for {letter.queue}: {error}") from error
    await letter.message.ack()


async def run(url: str, command: str, queue: str | None, ids: Sequence[str]) -> int:
    """Carry out a command.

    Returns the exit code, which is 0 only if all of it is done.

    Raises:
        UnreachableError: RabbitMQ does not answer, or rejects the request.

    """
    try:
        connection = await aio_pika.connect(
            url, client_properties={"connection_name": "dead letters"}, timeout=TIMEOUT_SECONDS
        )
    except (AMQPError, OSError, TimeoutError) as error:
        raise UnreachableError(f"RabbitMQ is not reachable: {type(error).__name__}: {error}") from error
    async with connection:
        # RabbitMQ puts every unacknowledged message back when the channel closes.
        reading = await connection.channel(publisher_confirms=False)
        users = BrokerUsers.of(connection.url.user or DEFAULT_USER, topology.OPERATOR)
        letters = selected(await fetch(reading), queue, ids)
        missing = set(ids) - {letter.id for letter in letters}
        failed = len(missing)
        for letter in letters:
            if command == "show":
                write_line(letter.text(users))
            else:
                failed += not await _replayed(connection, letter, users)
        for id_ in sorted(missing):
            write_line(f"{escape_controls(id_)}: not in {topology.DEAD_LETTER_QUEUE}")
        count = f"{len(letters)} message(s)"
        write_line(
            f"{count} in {topology.DEAD_LETTER_QUEUE}"
            if command == "show"
            else f"{len(letters) - failed + len(missing)} of {count} replayed"
        )
        await reading.close()
    return 1 if failed else 0


async def _replayed(
    connection: aio_pika.abc.AbstractConnection, letter: DeadLetter, users: BrokerUsers
) -> bool:
    """Replay one dead letter, and write the result. Returns whether it succeeded.

    Each gets a channel of its own, because RabbitMQ closes the channel of a rejected request.
    """
    try:
        async with connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            await replay(channel, letter, users)
    except (AuthorshipError, UnreachableError) as error:
        write_line(f"{letter.id}: not replayed: {error}")
        return False
    write_line(f"{letter.id}: replayed to {letter.queue}")
    return True


def write_line(line: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns its exit code: 1 if a part of it failed, 2 if all of it did.
    """
    parser = argparse.ArgumentParser(
        prog="python -m phjob_runtime.amqp.dead_letters", description="Show and replay dead letters."
    )
    parser.add_argument("command", choices=("show", "replay"))
    parser.add_argument("ids", nargs="*", metavar="ID", help="an id from the output of show (default: all)")
    parser.add_argument("--queue", help="only the dead letters of this queue")
    parser.add_argument(
        "--url", help="RabbitMQ's URL, or - to read it from standard input (default: AMQP_URL)"
    )
    options = parser.parse_args(arguments)
    url = (
        sys.stdin.readline().strip() if options.url == "-" else options.url or os.environ.get("AMQP_URL", "")
    )
    if not url:
        parser.error("the URL of RabbitMQ is missing: set AMQP_URL, or use --url")
    logging.disable()  # The error that is written below contains what the client library would log.
    try:
        url = parse_broker_url(url, "the URL of RabbitMQ")
        return asyncio.run(run(url, options.command, options.queue, options.ids))
    except (SettingsError, UnreachableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

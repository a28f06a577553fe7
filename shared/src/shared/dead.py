"""The dead letters: shows what is in `phjob.dead`, and sends it back to the queue in which it died.

`python -m shared.dead show|replay [--queue QUEUE] [--url URL] [ID ...]`, for a person; needs the right to
read `phjob.dead` and to write to the services' exchanges (`definitions`: the operator's). What got a
message there is `bus`'s part, or RabbitMQ's (the delivery limit).

A message is taken out only after RabbitMQ has confirmed its copy: whoever is interrupted in between
leaves it twice, never not at all. The services know a message that they had before.
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
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError
from aiormq.exceptions import ChannelAccessRefused

from shared import topology
from shared.errors import UnreachableError

SECONDS = 10.0
"""That RabbitMQ may take to answer."""
EXCERPT = 300
"""Characters of a body that are shown."""
_WORDS = {
    "delivery_limit": f"its consumers died or were cut off with it {topology.DELIVERY_LIMIT} times",
}
"""What RabbitMQ's own reasons mean."""


@dataclass(frozen=True)
class DeadLetter:
    """One message in `phjob.dead`, and what is known of its death."""

    id: str
    queue: str
    """In which it died; empty if nobody says."""
    reason: str
    time: datetime | None
    kind: str
    publisher: str
    body: bytes
    message: AbstractIncomingMessage

    @classmethod
    def of(cls, message: AbstractIncomingMessage) -> "DeadLetter":
        """By the headers that we have given it, else by RabbitMQ's."""
        headers: Mapping[str, Any] = message.headers
        deaths = headers.get("x-death")
        death: Mapping[str, Any] = deaths[0] if isinstance(deaths, list) and deaths else {}
        why = headers.get("reason") or death.get("reason") or ""
        time = headers.get("time") or death.get("time")
        queue = headers.get("queue") or death.get("queue") or ""
        parts = (queue, message.message_id, message.app_id, message.type, time, message.body)
        return cls(
            id=hashlib.sha256(repr(parts).encode()).hexdigest()[:10],
            queue=str(queue),
            reason=_WORDS.get(str(why), str(why)) or "nobody says why",
            time=time if isinstance(time, datetime) else None,
            kind=message.type or "",
            publisher=message.app_id or "",
            body=message.body,
            message=message,
        )

    def text(self) -> str:
        """For a person: nothing in it can move his terminal's cursor."""
        said = self.body[: EXCERPT * 4].decode(errors="replace")
        shown = said[:EXCERPT] + ("..." if len(said) > EXCERPT else "")
        when = f"{self.time:%Y-%m-%d %H:%M:%S}Z" if self.time else "?"
        queue, kind, publisher = (_plain(text) or "?" for text in (self.queue, self.kind, self.publisher))
        return (
            f"{self.id}  {when}  {queue}  {kind} from {publisher}\n"
            f"    reason: {_plain(self.reason)}\n"
            f"    body:   {_plain(shown)} ({len(self.body)} bytes)"
        )

    def copy(self) -> aio_pika.Message:
        """The message as it was first sent: nothing of its death is in the copy."""
        message = self.message
        return aio_pika.Message(
            self.body,
            app_id=message.app_id,
            content_type=message.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message.message_id,
            type=message.type,
        )


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


async def dead_letters(channel: AbstractChannel) -> list[DeadLetter]:
    """What is in `phjob.dead` now, oldest first; it stays there until it is acknowledged.

    Raises:
        UnreachableError: there is no such queue, or this user may not read it.

    """
    try:
        queue = await channel.get_queue(topology.DEAD)
        found = []
        for _ in range(queue.declaration_result.message_count or 0):
            message = await queue.get(fail=False, timeout=SECONDS)
            if message is None:
                break  # Somebody else took it.
            found.append(DeadLetter.of(message))
    except ChannelNotFoundEntity as error:
        raise UnreachableError(
            f"RabbitMQ has no queue {topology.DEAD}: is it the right virtual host?"
        ) from error
    except ChannelAccessRefused as error:
        raise UnreachableError(f"this user may not read {topology.DEAD}; the operator may") from error
    return found


def chosen(letters: Iterable[DeadLetter], queue: str | None, ids: Sequence[str]) -> list[DeadLetter]:
    """Those that died in the queue, if one is named, and have one of the ids, if there are any."""
    return [
        letter
        for letter in letters
        if (queue is None or letter.queue == queue) and (not ids or letter.id in ids)
    ]


async def replay(channel: AbstractChannel, letter: DeadLetter) -> None:
    """Send it to the queue in which it died; only then take it out.

    Raises:
        UnreachableError: RabbitMQ did not take it; it stays where it is.

    """
    if not letter.queue:
        raise UnreachableError("nobody says in which queue it died")
    try:
        exchange = await channel.get_exchange(topology.exchange_of(letter.queue), ensure=False)
        await exchange.publish(letter.copy(), letter.queue, mandatory=True, timeout=SECONDS)
    except (DeliveryError, AMQPError, TimeoutError) as error:
        raise UnreachableError(f"RabbitMQ did not take it for {letter.queue}: {error}") from error
    await letter.message.ack()


async def run(url: str, command: str, queue: str | None, ids: Sequence[str]) -> int:
    """Carry out a command; the exit code is 0 only if all of it is done.

    Raises:
        UnreachableError: RabbitMQ does not answer, or refuses.

    """
    try:
        connection = await aio_pika.connect(
            url, client_properties={"connection_name": "dead letters"}, timeout=SECONDS
        )
    except (AMQPError, OSError, TimeoutError) as error:
        raise UnreachableError(f"RabbitMQ is not reachable: {type(error).__name__}: {error}") from error
    async with connection:
        # What is got and not acknowledged is back in its place when the channel ends.
        reading = await connection.channel(publisher_confirms=False)
        letters = chosen(await dead_letters(reading), queue, ids)
        missing = set(ids) - {letter.id for letter in letters}
        failed = len(missing)
        for letter in letters:
            if command == "show":
                say(letter.text())
            else:
                failed += not await _replayed(connection, letter)
        for id_ in sorted(missing):
            say(f"{_plain(id_)}: not in {topology.DEAD}")
        count = f"{len(letters)} message(s)"
        say(
            f"{count} in {topology.DEAD}"
            if command == "show"
            else f"{len(letters) - failed + len(missing)} of {count} replayed"
        )
        await reading.close()
    return 1 if failed else 0


async def _replayed(connection: aio_pika.abc.AbstractConnection, letter: DeadLetter) -> bool:
    """A channel for each: a refusal costs it."""
    try:
        async with connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
            await replay(channel, letter)
    except UnreachableError as error:
        say(f"{letter.id}: stays: {error}")
        return False
    say(f"{letter.id}: back in {letter.queue}")
    return True


def say(line: str) -> None:
    """To the person who asked."""
    sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str]) -> int:
    """Run one command; exit code 1: not all of it was done, 2: none of it could be."""
    parser = argparse.ArgumentParser(
        prog="python -m shared.dead", description="Shows and replays dead letters."
    )
    parser.add_argument("command", choices=("show", "replay"))
    parser.add_argument("ids", nargs="*", metavar="ID", help="as shown; none: all")
    parser.add_argument("--queue", help="only what died in this queue")
    parser.add_argument("--url", help="of RabbitMQ; -: read it from standard input (default: AMQP_URL)")
    given = parser.parse_args(arguments)
    url = sys.stdin.readline().strip() if given.url == "-" else given.url or os.environ.get("AMQP_URL", "")
    if not url:
        parser.error("where is RabbitMQ? Set AMQP_URL, or give --url")
    logging.disable()  # What the client library has to say is in the error.
    try:
        return asyncio.run(run(url, given.command, given.queue, given.ids))
    except UnreachableError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

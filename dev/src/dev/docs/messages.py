"""The page of the messages, made from `phjob_core.messages.MESSAGES`."""

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import get_args, get_origin

from msgspec import NODEFAULT
from msgspec.structs import FieldInfo, fields

from dev.docs.markdown import attribute_docstrings, code, prose, table
from phjob_core.messages import MESSAGES, Command, Fact, Message, ReportGroupStatus
from phjob_runtime.amqp.topology import SENDS

_COMMANDS = (Command, ReportGroupStatus)

_PAGE = """\
# Messages

For contributors: every message that one service sends to another.
[ADR 4](../adr/0004-json-messages-that-only-grow.md) says how a message may change, and
[consistency](../design/consistency.md) how lost messages are detected.

`make docs` generates this page from
[messages.py](../../shared/core/src/phjob_core/messages.py). An old message must always decode:
[messages.v1.json](../../tests/contracts/messages.v1.json) keeps one of each kind as first written.

On the wire, the kind is AMQP's `type`, and the body is JSON. `message_id` is the session and the
sequence number. `app_id` is the publisher, which RabbitMQ's `user_id` proves
([spec, E6](../spec.md#e6)).
[topology.py](../../shared/runtime/src/phjob_runtime/amqp/topology.py) declares which service
writes to which queue, and which kinds it sends.

## Facts

The watcher publishes the state of each object as a fact. Every fact has these fields:

{fact}

{facts}

## Commands

The scheduler and the janitor send commands to pod-manager. A command about a job has these fields:

{command}

{commands}

## Control messages

They keep a stream complete.

{control}
"""


def page() -> str:
    """Return the whole page."""
    facts = [message for message in MESSAGES if issubclass(message, Fact)]
    commands = [message for message in MESSAGES if issubclass(message, _COMMANDS)]
    control = [message for message in MESSAGES if message not in (*facts, *commands)]
    return _PAGE.format(
        fact=_fields(Fact),
        facts=_sections(facts),
        command=_fields(Command),
        commands=_sections(commands),
        control=_sections(control),
    )


def _sections(messages: Iterable[type[Message]]) -> str:
    return "\n\n".join(part for message in messages for part in _section(message))


def _section(message: type[Message]) -> Iterator[str]:
    yield f"### {message.kind}"
    yield prose(inspect.getdoc(message) or "")
    if not issubclass(message, Fact):
        yield f"Sent by {', '.join(service for service, kinds in SENDS.items() if message in kinds)}."
    if fields := _fields(message):
        yield fields


def _fields(message: type[Message]) -> str:
    """Return the table of the fields that a message adds to those of its base."""
    inherited = {
        name for base in (Fact, Command) if message is not base for name in _inherited(message, base)
    }
    docstrings = attribute_docstrings(message)
    rows = [
        (code(field.name), code(_type(field.type)), _default(field), prose(docstrings.get(field.name, "")))
        for field in fields(message)
        if field.name not in inherited
    ]
    return table(("Field", "Type", "Default", "Meaning"), rows) if rows else ""


def _inherited(message: type[Message], base: type[Message]) -> Iterable[str]:
    return base.__struct_fields__ if issubclass(message, base) else ()


def _type(annotation: object) -> str:
    """Return an annotation as in the source, without the names of modules."""
    if annotation is type(None):
        return "None"
    arguments = ["..." if part is Ellipsis else _type(part) for part in get_args(annotation)]
    if not arguments:
        return getattr(annotation, "__name__", str(annotation))
    origin = get_origin(annotation)
    if origin in (dict, tuple):
        return f"{origin.__name__}[{', '.join(arguments)}]"
    return " | ".join(arguments)


def _default(field: FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return code(str(default) if default is None or isinstance(default, bool | tuple) else json.dumps(default))

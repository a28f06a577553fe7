"""Sharing of memory: equal values of many facts become one object. Pure.

Each decoded or projected fact has its own copies of the names, times and amounts in it. A service keeps
100,000 facts, of which most have the same group, user, image and limits, and a pod repeats what its job has.
"""

from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import fields, force_setattr

from phjob_core.messages import Message

T = TypeVar("T", str, dict[str, int])

MAX_COMMON_VALUES = 10_000
"""The number of values in the table of common values, which starts over when it is full.

Without a bound, a user who invents names would fill it.
"""
MAX_COMMON_CHARS = 128
"""The length of a text in the table, so that the table takes a few MiB at most."""

_COMMON_FIELDS = (
    "group",
    "group_id",
    "user",
    "image",
    "instance_type",
    "node",
    "reason",
    "message",
    "gpu_resource",
)
"""The fields whose values many facts have in common."""
_common: dict[Any, Any] = {}


class _Fields(NamedTuple):
    """The fields of one class whose values are shared. An enum equals its text, but must not replace it."""

    common: tuple[str, ...]
    """Texts that many facts have in common."""
    amounts: tuple[str, ...]
    """Dicts that many facts have in common."""
    own: tuple[str, ...]
    """Texts, times and revisions that only relatives share, such as uids."""


def share(message: Message, *relatives: Message | None) -> None:
    """Let the message use the values of its relatives, and common values, instead of equal ones of its own.

    The relatives are the previous fact about the same object, or the fact about its job or pod. Only the
    identity of values changes, so nobody can notice.
    """
    common, amounts, own = _fields_of(type(message))
    for field in common:
        value = getattr(message, field)
        if value and (shared := _common.get(value) or _add_common(value, value)) is not value:
            force_setattr(message, field, shared)
    for field in amounts:
        value = getattr(message, field)
        if (shared := share_amounts(value)) is not value:
            force_setattr(message, field, shared)
    known: dict[Any, Any] = {}
    for relative in relatives:
        if relative is not None:
            for field in _fields_of(type(relative)).own:
                value = getattr(relative, field)
                known[value] = value
    for field in own:
        value = getattr(message, field)
        if value and (shared := known.setdefault(value, value)) is not value:
            force_setattr(message, field, shared)


def share_amounts(amounts: dict[str, int]) -> dict[str, int]:
    """Return the common dict with these amounts. Nobody may change it."""
    key = tuple(amounts.items())
    shared = _common.get(key)
    return _add_common(key, amounts) if shared is None else shared


def _add_common(key: Any, value: T) -> T:
    """Return the value, after adding it to the table unless it is a long text."""
    if isinstance(value, dict) or len(value) <= MAX_COMMON_CHARS:
        if len(_common) >= MAX_COMMON_VALUES:
            _common.clear()
        _common[key] = value
    return value


@cache
def _fields_of(message: type[Message]) -> _Fields:
    types = {field.name: field.type for field in fields(message)}
    return _Fields(
        tuple(name for name in _COMMON_FIELDS if types.get(name) is str),
        tuple(name for name, of in types.items() if of == dict[str, int]),
        tuple(
            name
            for name, of in types.items()
            if of in (str, int, datetime, datetime | None) and name not in _COMMON_FIELDS
        ),
    )

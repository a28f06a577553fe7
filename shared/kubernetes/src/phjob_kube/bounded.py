"""Answers of the API server whose size is bounded, and lists that are read in pages of bounded size.

A user decides how large an object is, and how many large ones follow each other in a list. So no number of
objects bounds a page. A page that turns out too large is abandoned, and requested again with fewer objects.
WatchList (`sendInitialEvents`) would stream the objects, but Kubernetes 1.31 and 1.33 have it off by default.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import aiohttp
import msgspec

from phjob_core.api import Object
from phjob_core.errors import UnreachableError

MAX_ANSWER_BYTES = 16 * 2**20
"""The size of an answer, or of one event of a watch.

An object in etcd has at most 1.5 MiB. In JSON, each byte may take six, as in `\\u003c`.
"""
MAX_PAGE_BYTES = 4 * 2**20
"""The size of a page of more than one object. Two pages may be in memory: the last one, and the next."""


class AnswerTooLargeError(UnreachableError):
    """The answer is larger than its bound. The rest of it was not read."""


async def read(response: aiohttp.ClientResponse, max_bytes: int) -> bytearray:
    """Return the body of a response.

    Raises:
        AnswerTooLargeError: it is larger than `max_bytes`.

    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            response.close()
            body.clear()  # Without this, the traceback would keep it until the next garbage collection.
            raise AnswerTooLargeError(f"the API server's answer has more than {max_bytes} bytes")
    return body


class PageSize:
    """The number of objects to request in the next page of a list."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self.objects = largest

    @property
    def max_bytes(self) -> int:
        """The bound on the page. A single object may be as large as any answer."""
        return MAX_PAGE_BYTES if self.objects > 1 else MAX_ANSWER_BYTES

    def shrink(self) -> None:
        """Request half as many objects, because the page was too large, or took too long."""
        self.objects = max(1, self.objects // 2)

    def on_read(self, objects: int, size: int) -> None:
        """Request twice as many objects, if the page was full, and so many of the same size fit into one."""
        if objects >= self.objects and size <= MAX_PAGE_BYTES // 2:
            self.objects = min(2 * self.objects, self._largest)


class _Metadata(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion")
    following: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[msgspec.Raw] | None = None


_DECODER = msgspec.json.Decoder(_List)


class Page(Sequence[Object]):
    """One page of a list. Each object is parsed when it is asked for, so that only one is in memory."""

    def __init__(self, body: bytearray) -> None:
        """Raises ValueError if the body is not a page."""
        page = _DECODER.decode(body)
        self._items = page.items or []
        self.revision = int(page.metadata.resource_version)
        self.following = page.metadata.following
        """The token of the next page; empty if there is none."""

    @overload
    def __getitem__(self, index: int) -> Object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Object]: ...
    def __getitem__(self, index: int | slice) -> Object | Sequence[Object]:
        """Parse an object."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return _parse(self._items[index])

    def __iter__(self) -> Iterator[Object]:
        """Parse one object after the other."""
        return map(_parse, self._items)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._items)


def _parse(item: msgspec.Raw) -> Object:
    parsed: dict[str, Any] = msgspec.json.decode(item, type=dict[str, Any])
    return parsed

"""Bounded reading: a list of large objects in pages, from a server that has more than fits into memory."""

import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from phjob_core.api import Object
from phjob_core.errors import UnreachableError
from phjob_core.resource import Resource
from phjob_kube import bounded, http
from phjob_kube.bounded import MAX_ANSWER_BYTES, Page, PageSize
from phjob_kube.http import PAGE_OBJECTS, HttpKube, Server

PHJOBS = Resource("phjobs", "primehub.io", "v1alpha1")
MAX_PAGE_BYTES = 2**20
"""The bound on a page in these tests: a quarter of the real one, to save time."""
LARGEST = 3 * 2**17
"""The size of the largest object, in bytes of JSON: a quarter of the real one, too."""


@pytest.fixture(autouse=True)
def smaller_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the bound on a page."""
    monkeypatch.setattr(bounded, "MAX_PAGE_BYTES", MAX_PAGE_BYTES)


class FakeApiServer:
    """An API server that lists objects of given sizes, in bytes of JSON."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.limits: list[int] = []
        """The `limit` of each list."""
        self.error = 0
        """The status that it answers to everything; 0: it works."""
        self.expires = False
        """True if the revision of a list has expired when its second page is requested."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a LIST, object by object, so that this server holds no page either. Or a WATCH."""
        if "watch" in request.query:
            return await self._watch(request)
        first, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
        self.limits.append(limit)
        if self.error or (self.expires and first):
            status = {"kind": "Status", "reason": "Failed"}
            return web.json_response(status, status=self.error or 410)
        last = min(first + limit, len(self.sizes))
        response = web.StreamResponse()
        await response.prepare(request)
        following = str(last) if last < len(self.sizes) else ""
        metadata = json.dumps({"resourceVersion": "7", "continue": following})
        await response.write(f'{{"metadata": {metadata}, "items": ['.encode())
        with suppress(ConnectionError):  # The client abandons a page that is too large.
            await self._write_items(response, first, last)
        return response

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for size in self.sizes:
            event = {"type": "ADDED", "object": {"command": "x" * size}}
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def _write_items(self, response: web.StreamResponse, first: int, last: int) -> None:
        for number in range(first, last):
            item = {"metadata": {"name": f"job-{number}"}, "command": "x" * self.sizes[number]}
            await response.write(json.dumps(item).encode() + (b"," if number < last - 1 else b""))
        await response.write(b"]}")


async def no_credentials(_: dict[str, str]) -> None:
    """Add nothing to the headers."""


@asynccontextmanager
async def connected(api: FakeApiServer) -> AsyncIterator[HttpKube]:
    """Yield a client of the server."""
    application = web.Application()
    application.router.add_get("/{path:.*}", api.serve)
    async with TestServer(application) as server, aiohttp.ClientSession(read_bufsize=2**16) as session:
        yield HttpKube(Server(str(server.make_url("")).rstrip("/"), session, no_credentials), "hub")


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([LARGEST] * 28, id="large objects only"),
        pytest.param([100] * 600 + [LARGEST] * 24 + [100] * 600 + [LARGEST] * 4, id="behind small ones"),
    ],
)
async def test_a_list_is_complete_and_no_page_larger_than_the_bound_is_held(sizes: list[int]) -> None:
    """Whatever names a user gives to large objects. All of them together would take more memory."""
    api = FakeApiServer(sizes)
    async with connected(api) as kube:
        await kube.list(PHJOBS, name_of)  # So that everything that happens once has happened.
        tracemalloc.start()
        try:
            listing = await kube.list(PHJOBS, name_of)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert listing.items == [f"job-{number}" for number in range(len(sizes))]
    assert listing.revision == 7
    assert sum(sizes) > 10 * MAX_PAGE_BYTES
    assert peak < 5 * MAX_PAGE_BYTES, "two pages, and what both ends of the connection buffer"


async def test_the_next_list_begins_with_the_size_that_fitted() -> None:
    """Each page that is abandoned costs the API server as much as one that is read."""
    api = FakeApiServer([LARGEST] * 10)
    async with connected(api) as kube:
        await kube.list(PHJOBS, name_of)
        assert api.limits[0] == PAGE_OBJECTS
        api.limits.clear()
        await kube.list(PHJOBS, name_of)
        assert api.limits == [2] * 5
        api.sizes = [100] * 600
        api.limits.clear()
        for _ in range(2):
            await kube.list(PHJOBS, name_of)
    assert api.limits[-2:] == [PAGE_OBJECTS, PAGE_OBJECTS]


async def test_a_page_of_one_object_may_be_as_large_as_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not larger: no API server has such an object."""
    api = FakeApiServer([MAX_PAGE_BYTES + 1])
    async with connected(api) as kube:
        assert (await kube.list(PHJOBS, name_of)).items == ["job-0"]
        monkeypatch.setattr(bounded, "MAX_ANSWER_BYTES", MAX_PAGE_BYTES)
        with pytest.raises(UnreachableError, match=f"more than {MAX_PAGE_BYTES} bytes"):
            await kube.list(PHJOBS, name_of)


def test_the_size_of_a_page_follows_the_objects() -> None:
    """Half as many after a page that was too large or took too long, twice as many after a small one."""
    size = PageSize(500)
    assert (size.objects, size.max_bytes) == (500, MAX_PAGE_BYTES)
    for _ in range(20):
        size.shrink()
    assert (size.objects, size.max_bytes) == (1, MAX_ANSWER_BYTES)
    size.on_read(1, MAX_PAGE_BYTES // 2 + 1)
    assert size.objects == 1
    for _ in range(20):
        size.on_read(size.objects, MAX_PAGE_BYTES // 2)
    assert size.objects == 500
    size.shrink()
    size.on_read(3, 100)
    assert size.objects == 250, "a last page says little about the next one"


def a_page(*items: Any, **metadata: str) -> Page:
    body = {"kind": "PhJobList", "metadata": {"resourceVersion": "7", **metadata}, "items": items}
    return Page(bytearray(json.dumps(body).encode()))


def test_a_page_is_a_sequence_of_its_objects() -> None:
    """With the revision of the list, and the token of the next page."""
    page = a_page({"a": 1}, {"b": 2}, {"c": 3}, **{"continue": "token"})
    assert (len(page), page.revision, page.following) == (3, 7, "token")
    assert list(page) == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert (page[0], page[-1], page[1:]) == ({"a": 1}, {"c": 3}, [{"b": 2}, {"c": 3}])
    assert a_page().following == ""
    assert list(Page(bytearray(b'{"metadata": {"resourceVersion": "7"}, "items": null}'))) == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"metadata": {}}'])
def test_what_is_no_page_is_rejected(body: bytes) -> None:
    """A proxy may answer 200 with a page of its own."""
    with pytest.raises(ValueError, match=r".+"):
        Page(bytearray(body))


async def test_a_page_that_is_not_answered_is_smaller_the_next_time() -> None:
    """The API server may take too long for 500 large objects, and would otherwise do so forever."""
    api = FakeApiServer([100])
    async with connected(api) as kube:
        api.error = 504
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await kube.list(PHJOBS, name_of)
        api.error = 0
        await kube.list(PHJOBS, name_of)
    assert api.limits == [PAGE_OBJECTS, PAGE_OBJECTS // 2, PAGE_OBJECTS // 4]


class CountingBackoff:
    """A backoff without a pause. The revisions of the API server's lists are valid again after three."""

    def __init__(self, api: FakeApiServer) -> None:
        self.failures: list[int] = []
        self._api = api

    def delay(self, failures: int) -> float:
        """Record the number of failures."""
        self.failures.append(failures)
        self._api.expires = failures < 3
        return 0.0


async def test_a_list_whose_revision_expires_starts_over_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the pause, a list that always expires would be requested without end."""
    api = FakeApiServer([100] * (PAGE_OBJECTS + 1))
    api.expires = True
    backoff = CountingBackoff(api)
    monkeypatch.setattr(http, "LIST_BACKOFF", backoff)
    async with connected(api) as kube:
        assert len((await kube.list(PHJOBS, name_of)).items) == PAGE_OBJECTS + 1
    assert backoff.failures == [1, 2, 3]


async def test_an_event_of_a_watch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a line without end is not the API server."""
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", LARGEST)
    api = FakeApiServer([100])
    async with connected(api) as kube:
        assert [kind async for kind, _ in kube.watch(PHJOBS, 7)] == ["ADDED"]
        api.sizes = [LARGEST]
        with pytest.raises(UnreachableError, match="LineTooLong"):
            _ = [kind async for kind, _ in kube.watch(PHJOBS, 7)]

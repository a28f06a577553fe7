"""The Kubernetes API over HTTP, and which error each unsuccessful answer means.

An error distinguishes three outcomes: rejected for good, unknown, and an expired revision. `bounded` bounds
the size of what is read.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from phjob_core.api import Object
from phjob_core.backoff import Backoff
from phjob_core.errors import (
    DeniedError,
    ExpiredError,
    NotAuthorizedError,
    PhJobError,
    RejectedError,
    UnreachableError,
)
from phjob_core.resource import Resource
from phjob_kube.bounded import MAX_ANSWER_BYTES, AnswerTooLargeError, Page, PageSize, read
from phjob_kube.port import Listing

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 10
"""The time to connect for a watch or a log. Other requests have only `REQUEST_TIMEOUT_SECONDS`."""
REQUEST_TIMEOUT_SECONDS = 30.0
"""The time after which the outcome of a request counts as unknown."""
WATCH_SECONDS = 300
"""The time after which the API server is asked to end a watch."""
MAX_WATCH_SILENCE_SECONDS = 120
"""The time without a line, bookmarks included, after which a watch counts as broken."""
MAX_LOG_SILENCE_SECONDS = 10
MAX_FOLLOW_SILENCE_SECONDS = 3600
"""Time without a line after which a log that is followed counts as broken."""
"""The time without a piece of a log after which the log counts as unreadable."""
PAGE_OBJECTS = 500
"""The number of objects in one page of a LIST, unless they are large (`bounded.PageSize`)."""
LIST_BACKOFF = Backoff(first=1.0, longest=30.0)
"""The delay before a LIST starts again because its revision expired before its last page was read."""
MAX_MESSAGE_CHARS = 4096
"""The length of a message of the API server in an error. It may quote a value of a user."""
_MAX_EXCERPT_BYTES = 200
"""The size of the excerpt that an error quotes from an answer that is not the API server's."""

Observe = Callable[[str, str, int, float], None]
"""Takes the verb, the resource's plural, the status (0: no answer) and the seconds of each request."""


def observe_nothing(verb: str, plural: str, status: int, seconds: float) -> None:
    """Ignore the request."""


@dataclass
class Server:
    """An API server, and the credentials for it."""

    url: str
    session: aiohttp.ClientSession
    """The session of new requests. Another one replaces it when the client certificate has changed."""
    sign: Callable[[dict[str, str]], Awaitable[None]]
    """Adds the current credentials to a request's headers."""
    observe: Observe = observe_nothing


class HttpKube:
    """The client of one API server, for one namespace. Implements `port.Kube`."""

    page_objects = PAGE_OBJECTS

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._page_sizes: dict[str, PageSize] = {}
        """By the plural of the listed kind, because the next list has the same objects."""

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Return every object, each as `project` makes it."""
        expirations = 0
        while True:
            items: list[T] = []
            revision = 0
            try:
                async for page in self._pages(resource):
                    items += [project(item) for item in page]
                    revision = page.revision
            except ExpiredError:
                # etcd was compacted between two pages, so the list has to start again.
                expirations += 1
                await asyncio.sleep(LIST_BACKOFF.delay(expirations))
                continue
            return Listing(items, revision)

    async def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Yield every object, a page at a time, to save memory."""
        async for page in self._pages(resource):
            yield page

    async def _pages(self, resource: Resource) -> AsyncIterator[Page]:
        query = self._selectors(resource)
        while True:
            page = await self._page(resource, query)
            yield page
            if not page.following:
                return
            query["continue"] = page.following

    async def _page(self, resource: Resource, query: Mapping[str, str]) -> Page:
        """Return the next page of a list, of as many objects as fit."""
        size = self._page_sizes.setdefault(resource.plural, PageSize(self.page_objects))
        while True:
            limited = {**query, "limit": str(size.objects)}
            try:
                body = await self._request("GET", resource, query=limited, max_bytes=size.max_bytes)
            except AnswerTooLargeError:
                if size.objects == 1:
                    raise
                size.shrink()
                continue
            except UnreachableError:
                size.shrink()  # The API server may take too long for a page of large objects.
                raise
            try:
                page = Page(body)
            except ValueError as error:
                raise _foreign(200, body) from error
            size.on_read(len(page), len(body))
            return page

    async def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """Yield what the container has written up to now, in pieces."""
        async for piece in self._log(pod, {"container": container}, MAX_LOG_SILENCE_SECONDS):
            yield piece

    async def follow_log(
        self, pod: str, container: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """Yield what the container has written and still writes, in pieces, until it ends.

        `opened` is called when the server has begun to answer.
        """
        query = {"container": container, "follow": "true"}
        async for piece in self._log(pod, query, MAX_FOLLOW_SILENCE_SECONDS, opened):
            yield piece

    async def _log(
        self,
        pod: str,
        query: Mapping[str, str],
        max_silence: float,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[bytes]:
        url = self._url(Resource("pods"), pod, "log")
        try:
            headers = await self._headers()
            async with self.server.session.get(
                url, params=query, headers=headers, timeout=_stream_timeout(max_silence)
            ) as response:
                if response.status == 204:
                    raise RejectedError(204, "NoContent", "the pod is on no node, so it has no log")
                if response.status != 200:
                    raise self._failure(response.status, await read(response, MAX_ANSWER_BYTES))
                opened()
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    async def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (event type, object) for every change after the revision."""
        query = self._selectors(resource) | {
            "watch": "true",
            "resourceVersion": str(revision),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = _stream_timeout(MAX_WATCH_SILENCE_SECONDS)
        try:
            headers = await self._headers()
            async with self.server.session.get(
                self._url(resource), params=query, headers=headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    raise self._failure(response.status, await read(response, MAX_ANSWER_BYTES))
                opened()
                while line := await response.content.readline(max_line_length=MAX_ANSWER_BYTES):
                    kind, item = _parse_event(line)
                    if kind == "ERROR":
                        raise self._failure(item.get("code", 500), json.dumps(item).encode())
                    yield kind, item
        except (aiohttp.ClientError, TimeoutError, OSError, LineTooLong) as error:
            raise _unreachable(error) from error

    async def get(self, resource: Resource, name: str, *, cached: bool = False) -> Object | None:
        """Return the object; None if it does not exist."""
        query = {"resourceVersion": "0"} if cached else None
        try:
            found: Object = parse_answer(await self._request("GET", resource, name, query=query))
        except RejectedError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object. Returns it as the server stored it."""
        return parse_answer(await self._request("POST", resource, body=body))

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch (RFC 6902). Returns the object as it is then."""
        return parse_answer(await self._request("PATCH", resource, name, subresource, body=operations))

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Replace an object at the resourceVersion that `body` has, or at any if it has none."""
        return parse_answer(await self._request("PUT", resource, name, body=body))

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> bool:
        """Delete the object with this uid, if it is still at the revision."""
        preconditions = {"uid": uid}
        if revision is not None:
            preconditions["resourceVersion"] = str(revision)
        options: dict[str, Any] = {"preconditions": preconditions}
        if force:
            options["gracePeriodSeconds"] = 0
        try:
            parse_answer(await self._request("DELETE", resource, name, body=options))
        except RejectedError as error:
            # 409: the name belongs to another object now, or the object has changed since the revision.
            if not error.means(404, 409):
                raise
            return error.status == 404
        return True

    def _selectors(self, resource: Resource) -> dict[str, str]:
        selectors = {
            "labelSelector": resource.label_selector,
            "fieldSelector": resource.field_selector,
        }
        return {key: value for key, value in selectors.items() if value}

    def _url(self, resource: Resource, name: str = "", subresource: str = "") -> URL:
        path = resource.path(self.namespace, name, subresource).removeprefix("/")
        # Without `encoded`, `%2E%2E` would be decoded, and would then mean the folder above.
        return URL(self.server.url).joinpath(path, encoded=True)

    async def _headers(self, content_type: str = "application/json") -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        await self.server.sign(headers)
        return headers

    async def _request(  # noqa: PLR0913 - everything that a request consists of
        self,
        method: str,
        resource: Resource,
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> bytearray:
        """Return the body of a successful answer.

        Raises:
            AnswerTooLargeError: it is larger than `max_bytes`.

        """
        content_type = "application/json-patch+json" if method == "PATCH" else "application/json"
        started = time.perf_counter()
        code = 0
        try:
            headers = await self._headers(content_type)
            async with self.server.session.request(
                method,
                self._url(resource, name, subresource),
                params=query,
                data=None if body is None else json.dumps(body),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            ) as response:
                code = response.status
                is_success = 200 <= code < 300
                content = await read(response, max_bytes if is_success else MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            code = 0
            raise _unreachable(error) from error
        finally:
            self.server.observe(method, resource.plural, code, time.perf_counter() - started)
        if not is_success:
            raise self._failure(code, content, method)
        return content

    def _failure(self, status: int, content: bytes | bytearray, method: str = "GET") -> PhJobError:
        """Return the error that an unsuccessful answer means."""
        return failure(status, content, method)


def parse_answer(content: bytes | bytearray) -> dict[str, Any]:
    """Return the object that the API server has answered with."""
    answer = _parse_object(content)
    if answer is None:
        raise _foreign(200, content)
    return answer


def _stream_timeout(max_silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_SECONDS, sock_read=max_silence)


def _unreachable(error: BaseException) -> UnreachableError:
    return UnreachableError(f"the API server does not answer: {type(error).__name__}: {error}")


def _foreign(status: int, content: bytes | bytearray) -> UnreachableError:
    """Return the error for an answer that the API server did not write itself."""
    return UnreachableError(
        f"something other than the API server answered {status}: {_excerpt(content)}", status
    )


_CONFLICTS = {("PATCH", "Conflict"), ("POST", "Conflict")}
"""Rejections because of a concurrent write, which mean nothing for the object itself.

The API server retries a patch five times by itself. A creation can conflict with an update of a
ResourceQuota (kubernetes/kubernetes#67761).
"""
_BY_RBAC = re.compile(r' is forbidden: User "|^User "[^"]*" cannot ')
"""The wording of RBAC. Admission policies, quotas and webhooks use another."""
_DENIAL = re.compile(
    r"""(^|: )(admission webhook "[^"]*" denied the request"""
    r"""|(ValidatingAdmissionPolicy|policy) ['"][^'"]*['"] (with binding '[^']*' )?denied request)"""
)
"""The wording with which the API server passes on the denial of a webhook or an admission policy.

Newer versions put `pods "train" is forbidden: ` before it. A webhook chooses the status from 400 on.
"""
_TOO_LARGE = re.compile(r"etcdserver: request is too large|message larger than max")
"""The wording of etcd and of its client, for an object that is too large to be stored.

The API server passes it on as 500, although it will never succeed.
"""


def failure(status: int, content: bytes | bytearray, method: str = "GET") -> PhJobError:
    """Return the error that an unsuccessful answer means.

    Only a `Status` object is the API server's own answer. A proxy or a load balancer may answer 403, 404
    or 410 with a page of its own, which means nothing for the object. A 410 means an expired revision only
    for a GET, LIST or WATCH. A webhook may deny a write with any status, and no read.
    """
    answer = _parse_object(content) or {}
    reason, message = str(answer.get("reason", "")), _message_of(answer)
    text = f"the API server answered {status} {reason}: {message}"
    if answer.get("kind") != "Status":
        return _foreign(status, content)
    if method != "GET" and _DENIAL.search(message):
        return DeniedError(status, reason, message)
    if status == 401 or (status == 403 and _BY_RBAC.search(message)):
        return NotAuthorizedError(text, status)
    if status == 410 and method == "GET":
        return ExpiredError(message)
    if status >= 500 and _TOO_LARGE.search(message):
        return rejection(status, content)
    if status in (408, 410, 429) or status >= 500 or (method, reason) in _CONFLICTS:
        return UnreachableError(text, status)
    return rejection(status, content)


def rejection(status: int, content: bytes | bytearray) -> RejectedError:
    """Return the API server's own rejection, with its reason and message."""
    answer = _parse_object(content) or {}
    return RejectedError(status, str(answer.get("reason", "")), _message_of(answer))


def _message_of(answer: Object) -> str:
    return str(answer.get("message", ""))[:MAX_MESSAGE_CHARS]


def _parse_object(content: bytes | bytearray) -> dict[str, Any] | None:
    """Return the JSON object in the bytes; None if they contain anything else."""
    try:
        answer = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _excerpt(content: bytes | bytearray) -> str:
    return content[:_MAX_EXCERPT_BYTES].decode(errors="replace")


def _parse_event(line: bytes) -> tuple[str, Object]:
    """Return the type and the object of an event of a watch.

    Raises:
        UnreachableError: the line is not an event, so that the rest of the watch cannot be trusted.

    """
    event = _parse_object(line)
    if event is None or not isinstance(event.get("object"), dict):
        raise UnreachableError(f"a watch sent a line that is not an event: {_excerpt(line)}")
    return str(event.get("type")), event["object"]

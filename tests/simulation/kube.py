"""The simulated Kubernetes API of one process: the store, behind a network and a server that may fail.

A request may get lost, or its answer. The server may carry it out after its sender has given up, or carry it
out and answer with an error. Watches lag, break and expire.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.simulation import foreign_answers
from tests.simulation.foreign_answers import ForeignAnswers
from tests.simulation.interceptor import Interceptor
from tests.simulation.process import Process
from tests.simulation.store import Change, Store

from phjob_core.api import Object
from phjob_core.errors import RejectedError, UnreachableError
from phjob_core.resource import Resource
from phjob_kube.port import Listing

T = TypeVar("T")
Kind = tuple[str, str]
"""A kind of request: its verb (for a patch, its purpose), and the plural of the object."""

CREATE: Kind = ("create", "pods")
CLIENT_TIMEOUT_SECONDS = 30.0
"""The time after which a client gives up a request without an answer, as in `phjob_kube.http`."""
SERVER_TIMEOUT_SECONDS = 60.0
"""The API server's `--request-timeout`, after which it no longer carries out a request."""
MAX_DELAY_SECONDS = 10.0
"""The maximum time that a request or an answer takes."""
USUAL_WATCH_LAG_SECONDS = 0.1
"""The maximum lag of a watch while no fault delays it."""
WATCH_SECONDS = 300.0
"""The time after which the server ends a watch."""
BOOKMARK_SECONDS = 10.0
"""The maximum time between two bookmarks."""


class PendingRequest:
    """A request in flight. It arrives when it is released, even if its sender is dead by then."""

    def __init__(self, process: Process, name: str, arrive: Callable[[], None]) -> None:
        """`name` is the object's. `arrive` carries the request out."""
        self.process = process
        self.name = name
        self._arrive: Callable[[], None] | None = arrive

    def release(self) -> None:
        """Let the request arrive now, unless it has arrived before."""
        arrive, self._arrive = self._arrive, None
        if arrive:
            arrive()


@dataclass
class ApiConditions:
    """The faults of the API server that are active now, and the requests in flight.

    The probabilities are those of each request.
    """

    random: Random
    latency: float = 0.02
    """The usual maximum seconds of one way. Rarely, one takes up to 20 times as long."""
    unreached: float = 0.0
    """The probability that the request does not arrive."""
    lost: float = 0.0
    """The probability that the request is carried out, but its answer is lost."""
    late: float = 0.0
    """The probability that the answer is lost, and the request arrives after its sender has given up."""
    error: float = 0.0
    """The probability that the answer is a server error. The request may be carried out."""
    failing_writes: dict[Kind, float] = field(default_factory=dict)
    """The share that is carried out, for each kind of write that is always answered with 500."""
    watch_lag: float = USUAL_WATCH_LAG_SECONDS
    """The maximum lag of a watch, in seconds."""
    watch_lag_of: dict[str, float] = field(default_factory=dict)
    """The lag of the watches of one kind, by plural, or of one process, by identity; in seconds."""
    foreign_answers: dict[str, ForeignAnswers] = field(default_factory=dict)
    """The answers that do not come from the API server, by service; "": to the requests of all services."""
    watch_break: float = 0.0
    """The probability that a watch breaks before its next event."""
    down: bool = False
    unanswered: dict[object, float] = field(default_factory=dict)
    """The time at which each unanswered request was sent."""
    generation: int = 0
    """The number of times that all connections were cut."""
    write_interceptor: Interceptor[Kind, PendingRequest] = field(default_factory=Interceptor)
    """The faults that wait for a write in flight."""
    delayed_creations: int = 0
    """The number of creations that a fault delays, and that have not arrived yet."""
    pending: dict[PendingRequest, None] = field(default_factory=dict)
    """The requests that have not arrived yet."""

    def cut(self) -> None:
        """Break every connection."""
        self.generation += 1

    def deliver_pending(self) -> None:
        """Let all requests in flight arrive now."""
        for request in list(self.pending):
            request.release()

    def draw_delay(self) -> float:
        """Return the seconds that the next request or answer takes."""
        slow = 20 if self.random.random() < 0.02 else 1
        return min(self.random.uniform(0.001, self.latency) * slow, MAX_DELAY_SECONDS)

    def draw(self, probability: float) -> bool:
        """Return whether an event of that probability occurs now."""
        return probability > 0 and self.random.random() < probability


class SimulatedKube:
    """The API server, as one process reaches it: the product's port `Kube`."""

    namespace = "hub"

    def __init__(self, store: Store, conditions: ApiConditions, process: Process) -> None:
        self._store = store
        self._conditions = conditions
        self._process = process

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Return the projection of every object, and the revision of the list."""
        items, revision = await self._request(lambda: self._listing(resource))
        return Listing([project(item) for item in items], revision)

    async def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Yield every object, in one page."""
        items, _ = await self._request(lambda: self._listing(resource))
        yield items

    async def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """Yield an empty log, because the simulation has no log archive."""
        if self._store.get("pods", pod) is None:
            raise RejectedError(404, "NotFound", f"pod {pod!r}, container {container!r}")
        yield b""

    async def follow_log(
        self, pod: str, container: str, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[bytes]:
        """Yield an empty log."""
        opened()
        async for piece in self.logs(pod, container):
            yield piece

    async def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield the type and the object of every event after the revision."""
        conditions, loop = self._conditions, asyncio.get_running_loop()
        generation = conditions.generation
        await self._request(lambda: self._store.since(resource.plural, revision))
        opened()
        changes = self._store.changes_of[resource.plural]
        seen = next((n for n, change in enumerate(changes) if change.revision > revision), len(changes))
        ends = loop.time() + WATCH_SECONDS
        while loop.time() < ends:
            if len(changes) == seen:
                try:
                    async with asyncio.timeout(BOOKMARK_SECONDS):
                        await self._store.wait_for_change(resource.plural)
                except TimeoutError:
                    pass
            now = self._store.revision
            await self._lag(resource.plural)
            await self._process.wait_until_running()
            if conditions.generation != generation or conditions.draw(conditions.watch_break):
                raise UnreachableError("the API server does not answer: the watch broke")
            end = seen
            while end < len(changes) and changes[end].revision <= now:
                end += 1
            new, seen = changes[seen:end], end
            for change in new:
                if event := _watch_event(resource, change):
                    yield event
            yield "BOOKMARK", {"metadata": {"resourceVersion": str(now)}}

    async def get(self, resource: Resource, name: str, *, cached: bool = False) -> Object | None:
        """Return the object; None if there is none. `cached`: it may be as old as the watches."""
        plural = resource.plural
        if not cached:
            return await self._request(lambda: self._store.get(plural, name))
        then = asyncio.get_running_loop().time() - self._draw_watch_lag(plural)
        return await self._request(lambda: self._store.get_as_of(plural, name, then))

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object. Returns it as the server stored it."""
        return await self._request(
            lambda: self._store.create(resource.plural, body),
            ("create", resource.plural),
            name=body["metadata"].get("name", ""),
        )

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch. Returns the object after it."""
        assert (subresource == "status") is (resource.plural not in {"events", "pods"})
        return await self._request(
            lambda: self._store.patch(resource.plural, name, operations),
            (_verb(operations), resource.plural),
            name=name,
        )

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Replace an object, if it still has the resourceVersion in `body`."""
        return await self._request(
            lambda: self._store.replace(resource.plural, name, body), ("replace", resource.plural)
        )

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> bool:
        """Delete an object, if it still has the uid and the revision.

        Returns whether it is deleted, or was gone already.
        """
        try:
            return await self._request(
                lambda: self._store.delete(resource.plural, name, uid=uid, revision=revision, force=force),
                ("delete", resource.plural),
            )
        except RejectedError as error:
            if error.status not in (404, 409):
                raise
            return error.status == 404

    def _listing(self, resource: Resource) -> tuple[Sequence[Object], int]:
        items = [item for item in self._store.all(resource.plural) if _selects(resource, item)]
        return items, self._store.revision

    async def _request(self, work: Callable[[], T], kind: Kind = ("get", ""), name: str = "") -> T:
        """Send a request, and wait for its answer. `work` carries it out on the store."""
        await self._process.wait_until_running()
        request = object()
        self._conditions.unanswered[request] = asyncio.get_running_loop().time()
        try:
            return await self._send(work, kind, name)
        finally:
            del self._conditions.unanswered[request]

    async def _lag(self, plural: str) -> None:
        """Wait as long as a watch of the kind is late now. The end of the fault ends the wait."""
        if not self._fault_lag(plural):
            await asyncio.sleep(self._draw_watch_lag(plural))
            return
        time = asyncio.get_running_loop().time
        end = time() + self._draw_watch_lag(plural)
        while self._fault_lag(plural) and (left := end - time()) > 0:  # noqa: ASYNC110 - time is simulated
            await asyncio.sleep(min(left, 1.0))

    def _fault_lag(self, plural: str) -> float:
        lags = self._conditions.watch_lag_of
        return max(lags.get(plural, 0.0), lags.get(self._process.identity, 0.0))

    def _draw_watch_lag(self, plural: str) -> float:
        """Return the seconds by which a watch of the kind is late now."""
        return self._fault_lag(plural) or self._conditions.random.uniform(0, self._conditions.watch_lag)

    async def _pass_network(self, kind: Kind, name: str) -> None:
        """Pass the network and the intermediaries, or raise the error of one that answers.

        Raises:
            PhJobError: the API server does not get the request.

        """
        conditions = self._conditions
        if conditions.down or conditions.draw(conditions.unreached):
            await asyncio.sleep(conditions.draw_delay())
            await self._process.wait_until_running()
            raise UnreachableError("the API server does not answer: connection refused")
        for service in ("", self._process.service):
            answers = conditions.foreign_answers.get(service)
            if answers and conditions.draw(answers.share):
                await asyncio.sleep(conditions.draw_delay())
                await self._process.wait_until_running()
                answer = conditions.random.choice(answers.kinds)
                if answer in foreign_answers.POLICY_ANSWERS:
                    self._record_rejection(kind, name)
                raise foreign_answers.failure(answer, kind[0])

    def _record_rejection(self, kind: Kind, name: str) -> None:
        """Record for the checker that a pod's creation failed or seemed to fail."""
        if kind == CREATE:
            self._store.rejected_pods.add(name)

    async def _send(self, work: Callable[[], T], kind: Kind, name: str) -> T:
        await self._pass_network(kind, name)
        conditions, loop = self._conditions, asyncio.get_running_loop()
        random, generation = conditions.random, conditions.generation
        answer: asyncio.Future[T] = loop.create_future()
        is_late = conditions.draw(conditions.late)
        is_lost = is_late or conditions.draw(conditions.lost)
        share_done = conditions.failing_writes.get(kind)
        is_error = share_done is not None or conditions.draw(conditions.error)
        is_dropped = is_error and not conditions.draw(0.5 if share_done is None else share_done)

        def arrive() -> None:
            """Carry the request out, whether its sender still waits or not."""
            del conditions.pending[request]
            if conditions.down or conditions.generation != generation or is_dropped:
                self._record_rejection(kind, name)
                _answer(answer, UnreachableError("the API server answered 500", 500))
                return
            try:
                with self._store.acting_as(self._process.identity):
                    outcome: T | Exception = work()
            except Exception as failure:
                outcome = failure
            if is_error:
                self._record_rejection(kind, name)
                status = random.choice((500, 504)) if share_done is None else 500
                outcome = UnreachableError(f"the API server answered {status}", status)
            if not is_lost:
                loop.call_later(conditions.draw_delay(), return_answer, outcome)

        def return_answer(outcome: T | Exception) -> None:
            """Return the answer, unless the connection has broken since."""
            is_connected = conditions.generation == generation
            _answer(answer, outcome if is_connected else UnreachableError("the connection was reset"))

        request = PendingRequest(self._process, name, arrive)
        conditions.pending[request] = None
        if conditions.write_interceptor.offer(kind, request):
            is_lost = True
            if kind != CREATE:  # `delay_creation` may let a creation arrive much later.
                loop.call_later(SERVER_TIMEOUT_SECONDS, request.release)
        else:
            late_arrival = random.choice((random.uniform(0, 1), random.uniform(0, SERVER_TIMEOUT_SECONDS)))
            loop.call_later(late_arrival if is_late else conditions.draw_delay(), request.release)
        if is_lost:
            await asyncio.sleep(random.choice((CLIENT_TIMEOUT_SECONDS, random.uniform(0.1, 5))))
            await self._process.wait_until_running()
            raise UnreachableError("the API server does not answer: the connection was reset")
        try:
            result = await answer
        finally:
            await self._process.wait_until_running()
        return result


def _verb(operations: Sequence[Object]) -> str:
    """Return the purpose of a patch, as the faults that wait for it name it."""
    written = {op["path"]: op["value"] for op in operations if op["op"] == "add"}
    if any(op["path"].startswith("/spec/schedulingGates") for op in operations):
        return "ungate"
    if "/metadata/finalizers" in written:
        return "hold"
    if "/status/fence" in written and "/status/phase" not in written:
        return "settle"
    return {"Admitted": "admit", "Requeued": "requeue"}.get(written.get("/status/reason", ""), "patch")


def _answer(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
        answer.exception()  # Without this, asyncio logs an exception that no sender retrieves.
    else:
        answer.set_result(outcome)


def _watch_event(resource: Resource, change: Change) -> tuple[str, Object] | None:
    """Return the event of a watch with the resource's selectors; None if they exclude the change."""
    was_selected = change.before is not None and _selects(resource, change.before)
    is_selected = not change.gone and _selects(resource, change.object)
    if is_selected:
        return ("MODIFIED" if was_selected else "ADDED"), change.object
    if not was_selected or change.before is None:
        return None
    revision = {"resourceVersion": str(change.revision)}
    return "DELETED", {**change.before, "metadata": {**change.before["metadata"], **revision}}


def _selects(resource: Resource, item: Object) -> bool:
    label, field = resource.label_selector, resource.field_selector
    if label and label not in (item["metadata"].get("labels") or {}):
        return False
    if field in ("", "status.reclaimed!=true"):
        return not field or not item["status"].get("reclaimed")
    if field == "status.reclaimed=true":
        return bool(item["status"].get("reclaimed"))
    if field.startswith("involvedObject.uid="):
        return field == f"involvedObject.uid={item['involvedObject']['uid']}"
    raise RejectedError(400, "BadRequest", f"field selector {field!r}")

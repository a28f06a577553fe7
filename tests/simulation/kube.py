"""The Kubernetes port of one process: the store behind a network and a server that may fail.

A request may not arrive, its answer may be lost, it may be done much later than its sender believes, and the
server may answer with an error and do it all the same. Watches lag, break and expire.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from tests.simulation.ambush import Ambushes
from tests.simulation.process import Process
from tests.simulation.store import Change, Store

from shared.errors import RefusedError, UnreachableError
from shared.kube import Listing, Object, Resource

T = TypeVar("T")
Kind = tuple[str, str]
"""Of a request: its verb (of a patch, what it does) and the plural of what it is about."""

TIMEOUT = 30.0
"""Seconds after which a request without an answer is given up, as in `shared.kube`."""
LATEST = 60.0
"""Seconds after which an API server gives a request up (its `--request-timeout`): it can't be done later."""
SLOWEST = 10.0
"""Seconds that one way takes at most."""
LATEST_CREATION = 2.5
"""The same of a creation. As the time that a pod has to start is shorter here than in production, so is this
(ARCHITECTURE.md, Known limit)."""
LAG = 0.1
"""Seconds that a watch is behind when all is well, at most."""
WATCH_SECONDS = 300.0
BOOKMARK_SECONDS = 10.0


class Held:
    """A write on its way, which is done when it is let go, whatever has become of its sender."""

    def __init__(self, process: Process, name: str, arrive: Callable[[], None]) -> None:
        """`name`: of the object."""
        self.process = process
        self.name = name
        self._arrive: Callable[[], None] | None = arrive

    def let_go(self) -> None:
        """Let it be done now, if it is not yet."""
        arrive, self._arrive = self._arrive, None
        if arrive:
            arrive()


@dataclass
class ApiWeather:
    """What requests and watches may suffer; the probabilities are of each request."""

    random: Random
    latency: float = 0.02
    """Seconds each way, at most; now and then much more."""
    unreached: float = 0.0
    """It does not arrive."""
    lost: float = 0.0
    """It is done, and the answer is lost."""
    late: float = 0.0
    """As `lost`, but it is done long after its sender has given it up."""
    error: float = 0.0
    """It is answered with an error of the server's, and done or not."""
    trouble: dict[Kind, float] = field(default_factory=dict)
    """Kinds of writes that are all answered with 500, as if a webhook failed; the share that is done."""
    lag: float = LAG
    """Seconds that a watch may be behind."""
    behind: dict[str, float] = field(default_factory=dict)
    """The same of one kind's watches alone, by plural."""
    breaks: float = 0.0
    """A watch breaks instead of going on."""
    down: bool = False
    under_way: dict[object, float] = field(default_factory=dict)
    """When each request that is not answered yet was made."""
    generation: int = 0
    """Counts up when every connection is lost."""
    writes: Ambushes[Kind, Held] = field(default_factory=Ambushes)
    """Those on their way that somebody wants to hold."""
    on_their_way: dict[Held, None] = field(default_factory=dict)
    """Every request that has not arrived yet."""

    def cut(self) -> None:
        """Let every connection be lost."""
        self.generation += 1

    def hurry(self) -> None:
        """Let everything arrive that is on its way."""
        for held in list(self.on_their_way):
            held.let_go()

    def delay(self) -> float:
        """Of one way."""
        slow = 20 if self.random.random() < 0.02 else 1
        return min(self.random.uniform(0.001, self.latency) * slow, SLOWEST)

    def happens(self, probability: float) -> bool:
        """Whether something of that probability happens now."""
        return probability > 0 and self.random.random() < probability


class SimulatedKube:
    """The API server, as one process reaches it."""

    namespace = "hub"

    def __init__(self, store: Store, weather: ApiWeather, process: Process) -> None:
        self._store = store
        self._weather = weather
        self._process = process

    async def list(self, resource: Resource, project: Callable[[Object], T]) -> Listing[T]:
        """Every object, consistent as of now, each as `project` makes it."""
        items, revision = await self._request(lambda: self._listing(resource))
        return Listing([project(item) for item in items], revision)

    async def pages(self, resource: Resource) -> AsyncIterator[Sequence[Object]]:
        """Every object, in one page."""
        items, _ = await self._request(lambda: self._listing(resource))
        yield items

    async def logs(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """Nothing: nobody reads logs, for there is no archive here."""
        if self._store.get("pods", pod) is None:
            raise RefusedError(404, "NotFound", f"pod {pod!r}, container {container!r}")
        yield b""

    async def watch(
        self, resource: Resource, revision: int, opened: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[str, Object]]:
        """(event type, object) for everything after the revision, until the server ends it."""
        weather, loop = self._weather, asyncio.get_running_loop()
        generation = weather.generation
        await self._request(lambda: self._store.since(resource.plural, revision))
        opened()
        changes = self._store.of[resource.plural]
        seen = next((n for n, change in enumerate(changes) if change.revision > revision), len(changes))
        ends = loop.time() + WATCH_SECONDS
        while loop.time() < ends:
            if len(changes) == seen:
                try:
                    async with asyncio.timeout(BOOKMARK_SECONDS):
                        await self._store.changed(resource.plural)
                except TimeoutError:
                    pass
            now = self._store.revision
            behind = weather.behind.get(resource.plural, 0.0)
            await asyncio.sleep(behind or weather.random.uniform(0, weather.lag))
            await self._process.awake()
            if weather.generation != generation or weather.happens(weather.breaks):
                raise UnreachableError("the API server does not answer: the watch broke")
            upto = seen
            while upto < len(changes) and changes[upto].revision <= now:
                upto += 1
            news, seen = changes[seen:upto], upto
            for change in news:
                if event := _event(resource, change):
                    yield event
            yield "BOOKMARK", {"metadata": {"resourceVersion": str(now)}}

    async def get(self, resource: Resource, name: str) -> Object | None:
        """The object, or None."""
        return await self._request(lambda: self._store.get(resource.plural, name))

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create it and return it as the server has it."""
        return await self._request(
            lambda: self._store.create(resource.plural, body),
            ("create", resource.plural),
            LATEST_CREATION,
            name=body["metadata"].get("name", ""),
        )

    async def patch(
        self, resource: Resource, name: str, operations: Sequence[Object], *, subresource: str = ""
    ) -> Object:
        """Apply a JSON Patch."""
        assert (subresource == "status") is (resource.plural != "events")
        return await self._request(
            lambda: self._store.patch(resource.plural, name, operations),
            (_verb(operations), resource.plural),
            name=name,
        )

    async def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Write the whole object, at the resourceVersion it carries."""
        return await self._request(lambda: self._store.replace(resource.plural, name, body))

    async def delete(
        self, resource: Resource, name: str, *, uid: str, revision: int | None = None, force: bool = False
    ) -> None:
        """Delete the object of that uid, if it still is at the revision; else do nothing."""
        await self._request(
            lambda: self._store.delete(resource.plural, name, uid=uid, revision=revision, force=force),
            ("delete", resource.plural),
        )

    def _listing(self, resource: Resource) -> tuple[Sequence[Object], int]:
        items = [item for item in self._store.all(resource.plural) if _selects(resource, item)]
        return items, self._store.revision

    async def _request(
        self, work: Callable[[], T], kind: Kind = ("get", ""), latest: float = LATEST, name: str = ""
    ) -> T:
        """Send it on its way, and wait for what comes back."""
        await self._process.awake()
        this = object()
        self._weather.under_way[this] = asyncio.get_running_loop().time()
        try:
            return await self._answered(work, kind, latest, name)
        finally:
            del self._weather.under_way[this]

    async def _answered(self, work: Callable[[], T], kind: Kind, latest: float, name: str) -> T:
        weather, loop = self._weather, asyncio.get_running_loop()
        if weather.down or weather.happens(weather.unreached):
            await asyncio.sleep(weather.delay())
            await self._process.awake()
            raise UnreachableError("the API server does not answer: connection refused")
        generation = weather.generation
        answer: asyncio.Future[T] = loop.create_future()
        late = weather.happens(weather.late)
        lost = late or weather.happens(weather.lost)
        trouble = weather.trouble.get(kind)
        error = trouble is not None or weather.happens(weather.error)
        undone = error and not weather.happens(0.5 if trouble is None else trouble)

        def arrive() -> None:
            """Be done, whether its sender still waits or not."""
            del weather.on_their_way[held]
            if weather.down or weather.generation != generation or undone:
                _settle(answer, UnreachableError("the API server answered 500", 500))
                return
            try:
                done: T | Exception = work()
            except Exception as failure:
                done = failure
            if error:
                status = weather.random.choice((500, 504)) if trouble is None else 500
                done = UnreachableError(f"the API server answered {status}", status)
            if not lost:
                loop.call_later(weather.delay(), come_back, done)

        def come_back(done: T | Exception) -> None:
            """Be answered, unless the connection is lost by now."""
            whole = weather.generation == generation
            _settle(answer, done if whole else UnreachableError("the connection was reset"))

        held = Held(self._process, name, arrive)
        weather.on_their_way[held] = None
        if weather.writes.comes(kind, held):
            lost = True
            loop.call_later(latest, held.let_go)
        else:
            in_time = weather.random.choice((weather.random.uniform(0, 1), weather.random.uniform(0, latest)))
            loop.call_later(in_time if late else weather.delay(), held.let_go)
        if lost:
            await asyncio.sleep(weather.random.choice((TIMEOUT, weather.random.uniform(0.1, 5))))
            await self._process.awake()
            raise UnreachableError("the API server does not answer: the connection was reset")
        try:
            result = await answer
        finally:
            await self._process.awake()
        return result


def _verb(operations: Sequence[Object]) -> str:
    """What a patch does, as those who wait for it name it."""
    written = {op["path"]: op["value"] for op in operations if op["op"] == "add"}
    if "/status/fence" in written and "/status/phase" not in written:
        return "settle"
    return {"Admitted": "admit", "Requeued": "requeue"}.get(written.get("/status/reason", ""), "patch")


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
        answer.exception()  # Its sender may have given up.
    else:
        answer.set_result(outcome)


def _event(resource: Resource, change: Change) -> tuple[str, Object] | None:
    """What a watch with the resource's selectors tells of the change."""
    was = change.before is not None and _selects(resource, change.before)
    now = not change.gone and _selects(resource, change.object)
    if now:
        return ("MODIFIED" if was else "ADDED"), change.object
    if not was or change.before is None:
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
    raise RefusedError(400, "BadRequest", f"field selector {field!r}")

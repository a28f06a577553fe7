"""The informer: which changes it publishes, and what a snapshot contains."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from phjob_core.api import Object
from phjob_core.errors import ExpiredError, RejectedError, RetryableError, UnreachableError
from phjob_core.kinds import IMAGES, PODS, Kind
from phjob_core.messages import Fact, PodGone
from phjob_core.resource import Resource
from phjob_kube.port import Listing
from phjob_watcher.informer import Informer, KindRejectedError, WatchGapError

T = TypeVar("T")
Event = tuple[str, Object]


def an_image(name: str, revision: int) -> dict[str, Any]:
    """Return an Image. Whether it is usable depends on the revision being odd."""
    return {
        "kind": "Image",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(revision)},
        "spec": {"url": f"registry/{name}:{revision}" if revision % 2 else ""},
    }


def a_pod(revision: int, group: str = "vision", **metadata: Any) -> dict[str, Any]:
    """Return a notebook that has no node yet."""
    labels = {"primehub.io/group": group, "primehub.io/user": "lin"}
    metadata |= {"name": "nb", "uid": "uid-nb", "labels": labels, "resourceVersion": str(revision)}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    return {"kind": "Pod", "metadata": metadata, "spec": {}, "status": {"phase": "Pending"}}


class ScriptedKube:
    """The port to the API server, with answers from the test.

    After the last event, a watch ends with the error, or stays open.
    """

    def __init__(
        self, listings: Sequence[tuple[int, Sequence[Object]]], events: Sequence[Event] = ()
    ) -> None:
        self._listings = list(listings)
        self._events = list(events)
        self.error: Exception | None = None
        self.watched_from: list[int] = []
        self.is_drained = asyncio.Event()

    async def list(self, _: Resource, project: Callable[[Object], T]) -> Listing[T]:
        revision, items = self._listings.pop(0)
        return Listing([project(item) for item in items], revision)

    async def watch(self, _: Resource, revision: int, opened: Callable[[], None]) -> AsyncIterator[Event]:
        self.watched_from.append(revision)
        opened()
        while self._events:
            yield self._events.pop(0)
        error, self.error = self.error, None
        if error:
            raise error
        self.is_drained.set()
        await asyncio.Event().wait()


class Fixture:
    """An informer on a scripted API server, and the facts that it publishes."""

    def __init__(
        self,
        listings: Sequence[tuple[int, Sequence[Object]]],
        events: Sequence[Event] = (),
        kind: Kind = IMAGES,
    ) -> None:
        self.facts: list[Fact] = []
        self.kube = ScriptedKube(listings, events)
        self.slept: list[float] = []
        self.informer: Informer[Any] = Informer(
            self.kube,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            kind,
            lambda fact, _: self.facts.append(fact),
        )

    async def sleep(self, seconds: float) -> None:
        """Be the informer's clock."""
        self.slept.append(seconds)

    async def watch_events(self) -> None:
        """Run the informer until it has received every event."""
        running = asyncio.create_task(self.informer.run())
        drained = asyncio.create_task(self.kube.is_drained.wait())
        await asyncio.wait((running, drained), timeout=10, return_when=asyncio.FIRST_COMPLETED)
        for task in (running, drained):
            task.cancel()
        await asyncio.gather(drained, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await running

    @property
    def published(self) -> list[tuple[str, str, int]]:
        return [(fact.kind, fact.name, fact.resource_version) for fact in self.facts]


async def test_a_list_returns_the_stored_fact_about_an_object_that_has_not_changed() -> None:
    """A snapshot would otherwise hold everything a second time."""
    fixture = Fixture(
        [(10, [an_image("a", 5), an_image("b", 6)]), (11, [an_image("a", 5), an_image("b", 11)])]
    )
    await fixture.informer.start()
    stored = {fact.name: fact for fact in fixture.informer.facts()}
    listed = {fact.name: fact for fact in (await fixture.informer.list()).items}
    assert listed["a"] is stored["a"]
    assert (listed["b"].resource_version, listed["b"].uid) == (11, stored["b"].uid)
    assert listed["b"].uid is stored["b"].uid


async def test_a_snapshot_contains_what_was_published_during_its_list() -> None:
    """Those facts precede the snapshot, so the consumer ignores them."""
    listed = [an_image("a", 5), an_image("b", 6)]
    fixture = Fixture(
        [(10, listed), (11, listed)],
        [("MODIFIED", an_image("a", 12)), ("DELETED", an_image("b", 13))],
    )
    await fixture.informer.start()
    listing = await fixture.informer.list()
    await fixture.watch_events()
    merged = fixture.informer.merge_with_listing(listing)
    assert merged.revision == 13
    assert [(fact.name, fact.resource_version) for fact in merged.items] == [("a", 12)]


async def test_a_list_that_is_newer_than_the_watch_is_the_snapshot() -> None:
    """If the watch reports older changes later, the consumer recognizes that they are old."""
    fixture = Fixture([(10, []), (20, [an_image("a", 15)])])
    await fixture.informer.start()
    merged = fixture.informer.merge_with_listing(await fixture.informer.list())
    assert (merged.revision, [fact.name for fact in merged.items]) == (20, ["a"])


async def test_the_first_list_publishes_nothing() -> None:
    """Every consumer requests a snapshot, because the session is new."""
    fixture = Fixture([(10, [an_image("a", 5)])])
    await fixture.informer.start()
    assert fixture.published == []
    assert [fact.name for fact in fixture.informer.facts()] == ["a"]
    assert fixture.informer.get("uid-a") is not None


async def test_a_kind_without_changes_is_reachable_as_soon_as_its_watch_is_open() -> None:
    """Otherwise a broken watch would make the watcher unready until the next bookmark, for a minute."""
    fixture = Fixture([(10, [])])
    await fixture.informer.start()
    fixture.informer.unreachable_reason = "the connection was lost"
    await fixture.watch_events()
    assert fixture.informer.unreachable_reason == ""
    assert fixture.facts == []


async def test_a_change_is_published_only_if_it_changes_the_projection() -> None:
    """Other writes cost no message, and neither do events that are older than the known state."""
    fixture = Fixture(
        [(10, [an_image("a", 5)])],
        [("MODIFIED", an_image("a", 11)), ("MODIFIED", an_image("a", 9)), ("MODIFIED", an_image("a", 12))],
    )
    await fixture.informer.start()
    await fixture.watch_events()
    assert fixture.published == [("ImageSeen", "a", 12)]


async def test_a_bookmark_moves_the_revision_and_publishes_nothing() -> None:
    """The next watch then starts where the history certainly still exists."""
    bookmark = {"kind": "Image", "metadata": {"resourceVersion": "30"}}
    fixture = Fixture([(10, [])], [("BOOKMARK", bookmark)])
    await fixture.informer.start()
    await fixture.watch_events()
    assert (fixture.informer.revision, fixture.facts) == (30, [])


async def test_the_deletion_of_a_pod_is_published_with_its_last_state() -> None:
    """Only the watch's last event may show that the container never ran (spec.md, L6)."""
    last = a_pod(12, deletionTimestamp="2026-01-01T00:00:00Z")
    fixture = Fixture([(10, [a_pod(5)])], [("DELETED", last)], PODS)
    await fixture.informer.start()
    await fixture.watch_events()
    (gone,) = fixture.facts
    assert isinstance(gone, PodGone)
    assert gone.never_started


async def test_a_pod_that_changes_its_group_leaves_the_old_one() -> None:
    """The old group may be of another shard, which would count the pod forever."""
    fixture = Fixture([(10, [a_pod(5)])], [("MODIFIED", a_pod(12, group="speech"))], PODS)
    await fixture.informer.start()
    await fixture.watch_events()
    assert [(fact.kind, getattr(fact, "group", "")) for fact in fixture.facts] == [
        ("PodGone", "vision"),
        ("PodSeen", "speech"),
    ]


async def test_an_object_that_no_longer_parses_is_deleted() -> None:
    """No snapshot contains it either, so consumers must not keep it."""
    broken = {"kind": "Image", "metadata": {"uid": "uid-a", "name": "a", "resourceVersion": "12"}, "spec": 7}
    fixture = Fixture([(10, [an_image("a", 5)])], [("MODIFIED", broken)])
    await fixture.informer.start()
    await fixture.watch_events()
    assert fixture.published == [("ImageGone", "a", 12)]


async def test_a_relist_publishes_exactly_the_difference() -> None:
    """Objects that were deleted, have changed or are new; nothing for those that are unchanged."""
    fixture = Fixture(
        [
            (10, [an_image("gone", 5), an_image("same", 5), an_image("changed", 5)]),
            (20, [an_image("same", 5), an_image("changed", 12), an_image("new", 13)]),
        ]
    )
    await fixture.informer.start()
    assert await fixture.informer.relist() == 20
    assert fixture.published == [
        ("ImageGone", "gone", 20), ("ImageSeen", "changed", 12), ("ImageSeen", "new", 13),
    ]  # fmt: skip


async def test_a_broken_watch_is_opened_again_where_it_ended() -> None:
    """After a delay; meanwhile the reason is known."""
    fixture = Fixture([(10, [])], [("ADDED", an_image("a", 12))])
    fixture.kube.error = UnreachableError("the connection was lost")
    await fixture.informer.start()
    await fixture.watch_events()
    assert fixture.kube.watched_from == [10, 12]
    assert len(fixture.slept) == 1
    assert 0.16 <= fixture.slept[0] <= 0.24


REPLACED = RejectedError(400, "BadRequest", "field label not supported: status.reclaimed")


@pytest.mark.parametrize("operation", ["list", "watch"])
async def test_a_definition_that_was_replaced_ends_the_term_with_the_api_servers_words(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The next term waits for PhJob's definition. A traceback would explain nothing (spec.md, E8)."""
    fixture = Fixture([(10, [])])
    await fixture.informer.start()

    async def reject(*_: object) -> None:
        raise REPLACED

    fixture.kube.error = REPLACED
    monkeypatch.setattr(fixture.kube, "list", reject)
    message = f"the API server rejects the {operation} of images: {REPLACED}"
    with pytest.raises(KindRejectedError, match=message):
        await (fixture.informer.list() if operation == "list" else fixture.informer.run())
    assert issubclass(KindRejectedError, RetryableError)


async def test_an_expired_watch_ends_the_term() -> None:
    """An object may have come and gone unobserved."""
    fixture = Fixture([(10, [])])
    fixture.kube.error = ExpiredError("too old resource version")
    await fixture.informer.start()
    with pytest.raises(WatchGapError, match="images"):
        await fixture.watch_events()

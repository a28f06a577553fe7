from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from shared.kube import Listing, Object, Resource
from shared.messages import Fact, ImageGone, ImageSeen
from watcher import translate
from watcher.mirror import Mirror

T = TypeVar("T")
IMAGES = Resource("images")


def an_image(name: str, revision: int) -> dict[str, Any]:
    return {
        "kind": "Image",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(revision)},
        "spec": {"url": f"registry/{name}:{revision}" if revision % 2 else ""},
    }


class Script:
    """The port to the API server, with the answers that a test wrote down."""

    def __init__(
        self, lists: Sequence[tuple[int, list[Object]]], events: Sequence[tuple[str, Object]]
    ) -> None:
        self._lists = list(lists)
        self._events = events

    async def list(self, _: Resource, project: Callable[[Object], T]) -> Listing[T]:
        revision, items = self._lists.pop(0)
        return Listing([project(item) for item in items], revision)

    async def watch(
        self, _: Resource, __: int, opened: Callable[[], None]
    ) -> AsyncIterator[tuple[str, Object]]:
        opened()
        for event in self._events:
            yield event


class Told:
    """A mirror of images over a script, and what it told."""

    def __init__(
        self, lists: Sequence[tuple[int, list[Object]]], events: Sequence[tuple[str, Object]] = ()
    ) -> None:
        self.facts: list[Fact] = []
        self.mirror: Mirror[ImageSeen] = Mirror(
            Script(lists, events),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            IMAGES,
            lambda item, _: translate.image(item),
            lambda known, revision: ImageGone(uid=known.uid, name=known.name, resource_version=revision),
            self.facts.append,
        )

    def says(self) -> list[tuple[str, str, int]]:
        return [(type(fact).__name__, fact.name, fact.resource_version) for fact in self.facts]


async def test_what_was_told_while_a_list_was_on_its_way_is_in_the_snapshot() -> None:
    """It went out before the snapshot, where its consumer ignores it."""
    told = Told(
        [(10, [an_image("a", 5), an_image("b", 6)]), (11, [an_image("a", 5), an_image("b", 6)])],
        [("MODIFIED", an_image("a", 12)), ("DELETED", an_image("b", 13))],
    )
    await told.mirror.start()
    listing = await told.mirror.list()
    await told.mirror._watch()
    newest = told.mirror.newest(listing)
    assert newest.revision == 13
    assert [(fact.name, fact.resource_version) for fact in newest.items] == [("a", 12)]


async def test_a_list_that_is_newer_than_the_watch_is_the_snapshot() -> None:
    """What the watch tells later of that time, the consumer knows to be old."""
    told = Told([(10, []), (20, [an_image("a", 15)])])
    await told.mirror.start()
    newest = told.mirror.newest(await told.mirror.list())
    assert (newest.revision, [fact.name for fact in newest.items]) == (20, ["a"])


async def test_a_kind_of_which_nothing_comes_is_reachable_as_soon_as_its_watch_is_open() -> None:
    """Else one watch that broke would keep the watcher unready until the next bookmark, a minute."""
    told = Told([(10, [])])
    await told.mirror.start()
    told.mirror.unreachable = "the connection was lost"
    await told.mirror._watch()
    assert told.mirror.unreachable == ""
    assert told.facts == []


async def test_only_what_changes_the_projection_is_told() -> None:
    """A write that concerns nobody costs no message; an event that is older than what is known is none."""
    told = Told(
        [(10, [an_image("a", 5)])],
        [("MODIFIED", an_image("a", 11)), ("MODIFIED", an_image("a", 9)), ("MODIFIED", an_image("a", 12))],
    )
    await told.mirror.start()
    await told.mirror._watch()
    assert told.says() == [("ImageSeen", "a", 12)]


async def test_after_a_lost_watch_exactly_the_difference_is_told() -> None:
    """What is gone, what has changed and what is new; what is as it was is not."""
    told = Told(
        [
            (10, [an_image("gone", 5), an_image("same", 5), an_image("changed", 5)]),
            (20, [an_image("same", 5), an_image("changed", 12), an_image("new", 13)]),
        ]
    )
    await told.mirror.start()
    assert await told.mirror.refresh() == 20
    assert told.says() == [("ImageGone", "gone", 20), ("ImageSeen", "changed", 12), ("ImageSeen", "new", 13)]

from collections.abc import Awaitable, Callable

from tests.fakes.facts import a_group, at
from tests.fakes.facts import an_image as image_seen
from tests.fakes.simulated_pod_manager import REVISIONS, SimulatedPodManager, run_scenario
from tests.support.builders import an_image

from phjob_core.api import Object
from phjob_core.kinds import IMAGES
from phjob_core.messages import GroupGone, ImageGone, ImageSeen
from phjob_kube.port import Kube
from phjob_pod_manager.catalog_cache import CatalogCache

NAME = "base-notebook"


def run_with_cache(scenario: Callable[[CatalogCache, SimulatedPodManager], Awaitable[None]]) -> None:
    """Run the scenario with a cache in front of the simulated API server."""

    async def run(pod_manager: SimulatedPodManager) -> None:
        kube: Kube = pod_manager.api
        cache = CatalogCache(kube)
        cache.reset(REVISIONS)
        await scenario(cache, pod_manager)

    run_scenario(run)


def seen(image: Object) -> ImageSeen:
    """Return the fact about the image as it is in the cluster."""
    metadata = image["metadata"]
    return image_seen(uid=metadata["uid"], resource_version=int(metadata["resourceVersion"]))


def stored(pod_manager: SimulatedPodManager) -> Object:
    """Return the image as it is in the cluster."""
    image = pod_manager.store.get("images", NAME)
    assert image
    return image


def change(pod_manager: SimulatedPodManager, url: str) -> None:
    """Change the image in the cluster. No fact reports it yet."""
    pod_manager.store.patch("images", NAME, [{"op": "add", "path": "/spec/url", "value": url}])


def test_an_object_is_fetched_again_only_after_a_fact_reports_a_change() -> None:
    """One request for thousands of pods of the same image."""

    async def scenario(cache: CatalogCache, pod_manager: SimulatedPodManager) -> None:
        cache.on_fact(seen(stored(pod_manager)), from_snapshot=True)
        first = await cache.get(IMAGES, NAME)
        change(pod_manager, "second")
        assert await cache.get(IMAGES, NAME) == first
        cache.on_fact(seen(stored(pod_manager)), from_snapshot=False)
        current = await cache.get(IMAGES, NAME)
        assert current
        assert current["spec"]["url"] == "second"

    run_with_cache(scenario)


def test_an_object_without_a_fact_is_fetched_each_time() -> None:
    """A pod can need an image before the watch has reported it."""

    async def scenario(cache: CatalogCache, pod_manager: SimulatedPodManager) -> None:
        await cache.get(IMAGES, NAME)
        change(pod_manager, "second")
        current = await cache.get(IMAGES, NAME)
        assert current
        assert current["spec"]["url"] == "second"

    run_with_cache(scenario)


def test_a_deleted_object_does_not_exist() -> None:
    """Neither if a fact reports that, nor if the API server does."""

    async def scenario(cache: CatalogCache, pod_manager: SimulatedPodManager) -> None:
        fact = seen(stored(pod_manager))
        cache.on_fact(fact, from_snapshot=True)
        await cache.get(IMAGES, NAME)
        pod_manager.store.remove("images", NAME)
        gone = ImageGone(uid=fact.uid, name=NAME, resource_version=pod_manager.store.revision)
        cache.on_fact(gone, from_snapshot=False)
        assert await cache.get(IMAGES, NAME) is None
        pod_manager.store.create("images", an_image())
        assert await cache.get(IMAGES, NAME) is not None
        pod_manager.store.remove("images", NAME)
        assert await cache.get(IMAGES, NAME) is None

    run_with_cache(scenario)


def test_an_older_fact_changes_nothing() -> None:
    """The watch may repeat what a snapshot contains."""

    async def scenario(cache: CatalogCache, pod_manager: SimulatedPodManager) -> None:
        old = seen(stored(pod_manager))
        change(pod_manager, "second")
        cache.on_fact(seen(stored(pod_manager)), from_snapshot=True)
        cache.on_fact(old, from_snapshot=False)
        cache.on_fact(ImageGone(uid=old.uid, name=NAME, resource_version=1), from_snapshot=False)
        current = await cache.get(IMAGES, NAME)
        change(pod_manager, "third")
        assert await cache.get(IMAGES, NAME) == current, "it is still cached"

    run_with_cache(scenario)


def test_the_groups_are_those_of_the_facts() -> None:
    """Grants come from them."""

    async def scenario(cache: CatalogCache, _: SimulatedPodManager) -> None:
        group = a_group("vision")
        cache.on_fact(group, from_snapshot=True)
        assert cache.groups.counting() == [group]
        gone = GroupGone(
            uid=group.uid, name=group.name, group=group.group, resource_version=group.resource_version + 1
        )
        cache.on_fact(gone, from_snapshot=False)
        assert cache.groups.counting() == []

    run_with_cache(scenario)


def test_a_refused_group_grants_nothing() -> None:
    """Only the PhGroup that the scheduler uses counts (spec.md, A13)."""

    async def scenario(cache: CatalogCache, _: SimulatedPodManager) -> None:
        first = a_group("vision", created=at(0))
        cache.on_fact(first, from_snapshot=True)
        cache.on_fact(a_group("second", group="vision", created=at(1)), from_snapshot=True)
        assert cache.groups.counting() == [first]
        cache.reset({**REVISIONS, "phgroups": 10**9})
        assert cache.groups.counting() == []

    run_with_cache(scenario)

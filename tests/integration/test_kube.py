"""shared.kube on a real API server: what it lists and watches, and which answer becomes which error."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.api import Api
from tests.support.builders import a_job

from shared import kube as kubernetes
from shared.errors import GoneError, RefusedError, SettingsError, UnreachableError
from shared.kube import HttpKube, Resource

SECONDS = 60.0
CONFIG_MAPS = Resource("configmaps", label_selector="ours=yes")
PHJOBS = Resource("phjobs", "primehub.io", "v1alpha1")
UNFINISHED = Resource("phjobs", "primehub.io", "v1alpha1", field_selector="status.reclaimed!=true")


def a_config_map(name: str, *, ours: str = "yes", **data: str) -> dict[str, Any]:
    """Any object will do."""
    metadata = {"name": name, "labels": {"ours": ours}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def name_of(item: kubernetes.Object) -> str:
    """The name of an object."""
    return str(item["metadata"]["name"])


async def events(kube: HttpKube, resource: Resource, revision: int, number: int) -> list[tuple[str, Any]]:
    """The first events after the revision, bookmarks left out."""
    found: list[tuple[str, Any]] = []
    async with asyncio.timeout(SECONDS), aclosing(_watch(kube, resource, revision)) as watch:
        async for kind, item in watch:
            if kind != "BOOKMARK":
                found.append((kind, item))
            if len(found) == number:
                break
    return found


async def _watch(kube: HttpKube, resource: Resource, revision: int) -> AsyncGenerator[tuple[str, Any]]:
    async for event in kube.watch(resource, revision):
        yield event


async def test_a_list_of_many_pages_is_whole(
    kube: HttpKube, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is asked for; the revision is that of the first."""
    monkeypatch.setattr(kubernetes, "PAGE", 10)
    names = sorted(f"c-{number}" for number in range(35))
    for name in names:
        api.create(a_config_map(name))
    api.create(a_config_map("not-ours", ours="no"))
    listing = await kube.list(CONFIG_MAPS, name_of)
    assert sorted(listing.items) == names
    assert listing.revision >= int(api.list("ConfigMap")["items"][0]["metadata"]["resourceVersion"])


async def test_an_empty_list_has_a_revision_to_watch_from(kube: HttpKube, api: Api) -> None:
    """Nothing that is created after it is missed."""
    listing = await kube.list(PHJOBS, name_of)
    assert listing.items == []
    api.create(a_job("job"))
    ((kind, item),) = await events(kube, PHJOBS, listing.revision, 1)
    assert (kind, name_of(item)) == ("ADDED", "job")


async def test_a_watch_goes_on_where_the_last_one_ended(kube: HttpKube, api: Api) -> None:
    """From the revision of what was seen last: nothing twice, nothing missed."""
    listing = await kube.list(CONFIG_MAPS, name_of)
    for name in ("a", "b", "c"):
        api.create(a_config_map(name))
    api.delete("ConfigMap", "a")
    first = await events(kube, CONFIG_MAPS, listing.revision, 2)
    assert [(kind, name_of(item)) for kind, item in first] == [("ADDED", "a"), ("ADDED", "b")]
    rest = await events(kube, CONFIG_MAPS, int(first[-1][1]["metadata"]["resourceVersion"]), 2)
    assert [(kind, name_of(item)) for kind, item in rest] == [("ADDED", "c"), ("DELETED", "a")]


async def test_an_object_that_leaves_the_selection_is_seen_as_deleted(kube: HttpKube, api: Api) -> None:
    """This is how the watcher learns that a job needs nothing any more."""
    api.create(a_job("job"))
    listing = await kube.list(UNFINISHED, name_of)
    assert listing.items == ["job"]
    done = {"status": {"phase": "Failed", "reclaimed": True}}
    api.merge("PhJob", "job", done, subresource="status")
    ((kind, item),) = await events(kube, UNFINISHED, listing.revision, 1)
    assert (kind, name_of(item)) == ("DELETED", "job")
    assert (await kube.list(UNFINISHED, name_of)).items == []


async def test_a_revision_that_is_too_old_is_gone(kube: HttpKube, api: Api) -> None:
    """410, from the watch cache or from etcd: list again."""
    api.create(a_job("job"))
    with pytest.raises(GoneError):
        await events(kube, PHJOBS, 1, 1)


async def test_get_finds_what_is_there_and_nothing_else(kube: HttpKube, api: Api) -> None:
    """None is an answer, not an error."""
    api.create(a_config_map("there", key="value"))
    found = await kube.get(CONFIG_MAPS, "there")
    assert found
    assert found["data"] == {"key": "value"}
    assert await kube.get(CONFIG_MAPS, "elsewhere") is None


async def test_a_name_that_is_taken_is_refused(kube: HttpKube) -> None:
    """409 AlreadyExists; the first is as it was."""
    created = await kube.create(CONFIG_MAPS, a_config_map("one", key="first"))
    with pytest.raises(RefusedError) as refused:
        await kube.create(CONFIG_MAPS, a_config_map("one", key="second"))
    assert (refused.value.status, refused.value.reason) == (409, "AlreadyExists")
    assert await kube.get(CONFIG_MAPS, "one") == created


async def test_an_invalid_object_is_refused_in_the_servers_words(kube: HttpKube) -> None:
    """422 Invalid."""
    with pytest.raises(RefusedError, match=r"spec\.command") as refused:
        await kube.create(PHJOBS, a_job("job", command=""))
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


async def test_a_patch_whose_test_holds_is_applied(kube: HttpKube, api: Api) -> None:
    """And answered with the whole object as it is then; a new job's status is there to be tested."""
    api.create(a_job("job"))
    patch = [
        {"op": "test", "path": "/status/phase", "value": "Pending"},
        {"op": "add", "path": "/status/phase", "value": "Preparing"},
    ]
    answer = await kube.patch(PHJOBS, "job", patch, subresource="status")
    assert answer["status"]["phase"] == "Preparing"
    assert answer["spec"]["command"] == "true"
    assert answer == await kube.get(PHJOBS, "job")


async def test_a_patch_whose_test_fails_is_refused_and_changes_nothing(kube: HttpKube, api: Api) -> None:
    """422: this is the compare-and-swap that every transition is."""
    before = api.create(a_job("job"))
    patch = [
        {"op": "test", "path": "/status/phase", "value": "Preparing"},
        {"op": "add", "path": "/status/phase", "value": "Running"},
    ]
    with pytest.raises(RefusedError) as refused:
        await kube.patch(PHJOBS, "job", patch, subresource="status")
    assert refused.value.status == 422
    assert api.get("PhJob", "job") == before


async def test_of_two_patches_that_test_the_same_one_is_refused(kube: HttpKube, api: Api) -> None:
    """However close together they come."""
    api.create(a_job("job"))

    async def admit(token: str) -> bool:
        patch = [
            {"op": "test", "path": "/status/fence", "value": ""},
            {"op": "add", "path": "/status/fence", "value": token},
        ]
        try:
            await kube.patch(PHJOBS, "job", patch, subresource="status")
        except RefusedError as error:
            assert error.status == 422  # noqa: PT017 - a definite no, and no other
            return False
        return True

    outcomes = await asyncio.gather(*(admit(f"token-{number}") for number in range(20)))
    assert sum(outcomes) == 1
    stored = api.get("PhJob", "job")
    assert stored
    assert stored["status"]["fence"] == f"token-{outcomes.index(True)}"


async def test_a_replacement_of_an_older_revision_is_refused(kube: HttpKube, api: Api) -> None:
    """409 Conflict."""
    older = api.create(a_config_map("one", key="first"))
    await kube.replace(CONFIG_MAPS, "one", {**older, "data": {"key": "second"}})
    with pytest.raises(RefusedError) as refused:
        await kube.replace(CONFIG_MAPS, "one", {**older, "data": {"key": "third"}})
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")


async def test_delete_spares_another_object_of_the_name(kube: HttpKube, api: Api) -> None:
    """The uid is a precondition."""
    api.create(a_config_map("one"))
    await kube.delete(CONFIG_MAPS, "one", uid="another")
    assert await kube.get(CONFIG_MAPS, "one")


async def test_delete_spares_an_object_that_has_changed(kube: HttpKube, api: Api) -> None:
    """The revision is one too, where it is given: a pod that has just started lives on."""
    older = api.create(a_config_map("one"))
    newer = api.merge("ConfigMap", "one", {"data": {"key": "value"}})
    uid = older["metadata"]["uid"]
    await kube.delete(CONFIG_MAPS, "one", uid=uid, revision=int(older["metadata"]["resourceVersion"]))
    assert await kube.get(CONFIG_MAPS, "one")
    await kube.delete(CONFIG_MAPS, "one", uid=uid, revision=int(newer["metadata"]["resourceVersion"]))
    assert await kube.get(CONFIG_MAPS, "one") is None
    await kube.delete(CONFIG_MAPS, "one", uid=uid)


@pytest.fixture
def nowhere(control_plane: Path, tmp_path: Path) -> Path:
    """A kubeconfig whose server is not there: nothing listens on port 1."""
    kubeconfig = yaml.safe_load(control_plane.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    copy = tmp_path / "kubeconfig"
    copy.write_text(yaml.safe_dump(kubeconfig))
    return copy


async def test_a_server_that_is_not_there_is_unreachable(nowhere: Path) -> None:
    """Whatever is asked of it."""
    async with kubernetes.connect(nowhere, "hub") as kube:
        with pytest.raises(UnreachableError, match="the API server does not answer") as unreachable:
            await kube.get(CONFIG_MAPS, "any")
        assert unreachable.value.status == 0
        with pytest.raises(UnreachableError):
            await kube.list(CONFIG_MAPS, name_of)
        with pytest.raises(UnreachableError):
            await events(kube, CONFIG_MAPS, 0, 1)


async def test_a_server_that_answers_too_late_is_unreachable(
    kube: HttpKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of the request is not known then."""
    monkeypatch.setattr(kubernetes, "REQUEST_TIMEOUT", 1e-6)
    with pytest.raises(UnreachableError):
        await kube.create(CONFIG_MAPS, a_config_map("one"))


async def test_a_kubeconfig_that_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(SettingsError, match=r"KUBECONFIG .*missing"):
        async with kubernetes.connect(tmp_path / "missing", "hub"):
            pass

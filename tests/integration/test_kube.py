"""The client of the API on a real API server: lists, watches, writes, and the errors of each."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.api import Api
from tests.support.builders import a_job

from phjob_core.api import Object
from phjob_core.errors import ExpiredError, RejectedError, SettingsError, UnreachableError
from phjob_core.resource import Resource
from phjob_kube import http
from phjob_kube.config import connect
from phjob_kube.http import HttpKube

SECONDS = 60.0
CONFIG_MAPS = Resource("configmaps", label_selector="ours=yes")
PHJOBS = Resource("phjobs", "primehub.io", "v1alpha1")
UNFINISHED = Resource("phjobs", "primehub.io", "v1alpha1", field_selector="status.reclaimed!=true")


def a_config_map(name: str, *, ours: str = "yes", **data: str) -> dict[str, Any]:
    """Return an object of a kind that every API server has."""
    metadata = {"name": name, "labels": {"ours": ours}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def a_pod_on_no_node(name: str) -> dict[str, Any]:
    """Return a pod with a scheduling gate that stays."""
    spec = {
        "schedulingGates": [{"name": "example.com/wait"}],
        "containers": [{"name": "main", "image": "none"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def name_of(item: Object) -> str:
    """Return the name of an object."""
    return str(item["metadata"]["name"])


async def events(kube: HttpKube, resource: Resource, revision: int, number: int) -> list[tuple[str, Any]]:
    """Return the first events after the revision, without bookmarks."""
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


async def test_a_pod_on_no_node_has_no_log(kube: HttpKube, api: Api) -> None:
    """The API server answers 204, without a reason."""
    api.create(a_pod_on_no_node("waits"))
    with pytest.raises(RejectedError, match="on no node") as rejected:
        _ = [piece async for piece in kube.logs("waits", "main")]
    assert rejected.value.status == 204


async def test_a_list_of_many_pages_is_complete(kube: HttpKube, api: Api) -> None:
    """Every page is requested. The revision is that of the first."""
    kube.page_objects = 10
    names = sorted(f"c-{number}" for number in range(35))
    for name in names:
        api.create(a_config_map(name))
    api.create(a_config_map("not-ours", ours="no"))
    listing = await kube.list(CONFIG_MAPS, name_of)
    assert sorted(listing.items) == names
    assert listing.revision >= int(api.list("ConfigMap")["items"][0]["metadata"]["resourceVersion"])


async def test_an_empty_list_has_a_revision_to_watch_from(kube: HttpKube, api: Api) -> None:
    """The watch reports everything that is created after the list."""
    listing = await kube.list(PHJOBS, name_of)
    assert listing.items == []
    api.create(a_job("job"))
    ((kind, item),) = await events(kube, PHJOBS, listing.revision, 1)
    assert (kind, name_of(item)) == ("ADDED", "job")


async def test_a_watch_continues_where_the_last_one_ended(kube: HttpKube, api: Api) -> None:
    """From the revision of the last event, without a gap and without a repetition."""
    listing = await kube.list(CONFIG_MAPS, name_of)
    for name in ("a", "b", "c"):
        api.create(a_config_map(name))
    api.delete("ConfigMap", "a")
    first = await events(kube, CONFIG_MAPS, listing.revision, 2)
    assert [(kind, name_of(item)) for kind, item in first] == [("ADDED", "a"), ("ADDED", "b")]
    rest = await events(kube, CONFIG_MAPS, int(first[-1][1]["metadata"]["resourceVersion"]), 2)
    assert [(kind, name_of(item)) for kind, item in rest] == [("ADDED", "c"), ("DELETED", "a")]


async def test_an_object_that_no_longer_matches_the_selector_is_reported_as_deleted(
    kube: HttpKube, api: Api
) -> None:
    """The watcher relies on it for reclaimed jobs."""
    api.create(a_job("job"))
    listing = await kube.list(UNFINISHED, name_of)
    assert listing.items == ["job"]
    done = {"status": {"phase": "Failed", "reclaimed": True}}
    api.merge_patch("PhJob", "job", done, subresource="status")
    ((kind, item),) = await events(kube, UNFINISHED, listing.revision, 1)
    assert (kind, name_of(item)) == ("DELETED", "job")
    assert (await kube.list(UNFINISHED, name_of)).items == []


async def test_a_revision_that_is_too_old_has_expired(kube: HttpKube, api: Api) -> None:
    """The API server answers 410, from its watch cache or from etcd."""
    api.create(a_job("job"))
    with pytest.raises(ExpiredError):
        await events(kube, PHJOBS, 1, 1)


async def test_get_returns_the_object_or_none(kube: HttpKube, api: Api) -> None:
    """A missing object is not an error."""
    api.create(a_config_map("one", key="value"))
    found = await kube.get(CONFIG_MAPS, "one")
    assert found
    assert found["data"] == {"key": "value"}
    assert await kube.get(CONFIG_MAPS, "another") is None


async def test_the_creation_of_a_taken_name_is_rejected(kube: HttpKube) -> None:
    """With 409 AlreadyExists. The first object is unchanged."""
    created = await kube.create(CONFIG_MAPS, a_config_map("one", key="first"))
    with pytest.raises(RejectedError) as rejected:
        await kube.create(CONFIG_MAPS, a_config_map("one", key="second"))
    assert (rejected.value.status, rejected.value.reason) == (409, "AlreadyExists")
    assert await kube.get(CONFIG_MAPS, "one") == created


async def test_an_invalid_object_is_rejected_with_the_servers_message(kube: HttpKube) -> None:
    """With 422 Invalid, and the name of the field."""
    with pytest.raises(RejectedError, match=r"spec\.command") as rejected:
        await kube.create(PHJOBS, a_job("job", command=""))
    assert (rejected.value.status, rejected.value.reason) == (422, "Invalid")


async def test_a_patch_whose_test_holds_is_applied(kube: HttpKube, api: Api) -> None:
    """The answer is the whole object. A new job already has a status to test (spec.md, A5)."""
    api.create(a_job("job"))
    patch = [
        {"op": "test", "path": "/status/phase", "value": "Pending"},
        {"op": "add", "path": "/status/phase", "value": "Preparing"},
    ]
    answer = await kube.patch(PHJOBS, "job", patch, subresource="status")
    assert answer["status"]["phase"] == "Preparing"
    assert answer["spec"]["command"] == "true"
    assert answer == await kube.get(PHJOBS, "job")


async def test_a_patch_whose_test_fails_is_rejected_and_changes_nothing(kube: HttpKube, api: Api) -> None:
    """With 422. Every write to a status is such a compare-and-swap (spec.md, A5)."""
    before = api.create(a_job("job"))
    patch = [
        {"op": "test", "path": "/status/phase", "value": "Preparing"},
        {"op": "add", "path": "/status/phase", "value": "Running"},
    ]
    with pytest.raises(RejectedError) as rejected:
        await kube.patch(PHJOBS, "job", patch, subresource="status")
    assert rejected.value.status == 422
    assert api.get("PhJob", "job") == before


async def test_only_one_of_many_patches_with_the_same_test_is_applied(kube: HttpKube, api: Api) -> None:
    """However close together they arrive."""
    api.create(a_job("job"))

    async def admit(token: str) -> bool:
        patch = [
            {"op": "test", "path": "/status/fence", "value": ""},
            {"op": "add", "path": "/status/fence", "value": token},
        ]
        try:
            await kube.patch(PHJOBS, "job", patch, subresource="status")
        except RejectedError as error:
            assert error.status == 422  # noqa: PT017 - no other rejection is right
            return False
        return True

    outcomes = await asyncio.gather(*(admit(f"token-{number}") for number in range(20)))
    assert sum(outcomes) == 1
    stored = api.get("PhJob", "job")
    assert stored
    assert stored["status"]["fence"] == f"token-{outcomes.index(True)}"


async def test_a_replacement_of_an_older_revision_is_rejected(kube: HttpKube, api: Api) -> None:
    """With 409 Conflict. The Lease relies on it."""
    older = api.create(a_config_map("one", key="first"))
    await kube.replace(CONFIG_MAPS, "one", {**older, "data": {"key": "second"}})
    with pytest.raises(RejectedError) as rejected:
        await kube.replace(CONFIG_MAPS, "one", {**older, "data": {"key": "third"}})
    assert (rejected.value.status, rejected.value.reason) == (409, "Conflict")


async def test_a_deletion_spares_another_object_of_the_same_name(kube: HttpKube, api: Api) -> None:
    """The uid is a precondition."""
    api.create(a_config_map("one"))
    await kube.delete(CONFIG_MAPS, "one", uid="another")
    assert await kube.get(CONFIG_MAPS, "one")


async def test_a_deletion_spares_an_object_that_has_changed(kube: HttpKube, api: Api) -> None:
    """If it has a revision as a precondition. A pod that has just started is not deleted."""
    older = api.create(a_config_map("one"))
    newer = api.merge_patch("ConfigMap", "one", {"data": {"key": "value"}})
    uid = older["metadata"]["uid"]
    await kube.delete(CONFIG_MAPS, "one", uid=uid, revision=int(older["metadata"]["resourceVersion"]))
    assert await kube.get(CONFIG_MAPS, "one")
    await kube.delete(CONFIG_MAPS, "one", uid=uid, revision=int(newer["metadata"]["resourceVersion"]))
    assert await kube.get(CONFIG_MAPS, "one") is None
    await kube.delete(CONFIG_MAPS, "one", uid=uid)


@pytest.fixture
def unreachable_server(control_plane: Path, tmp_path: Path) -> Path:
    """A kubeconfig of a server that does not exist: nothing listens on port 1."""
    kubeconfig = yaml.safe_load(control_plane.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    copy = tmp_path / "kubeconfig"
    copy.write_text(yaml.safe_dump(kubeconfig))
    return copy


async def test_a_server_that_does_not_answer_is_unreachable(unreachable_server: Path) -> None:
    """For every kind of request."""
    async with connect(unreachable_server, "hub") as kube:
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
    """The outcome of the request is unknown."""
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_SECONDS", 1e-6)
    with pytest.raises(UnreachableError):
        await kube.create(CONFIG_MAPS, a_config_map("one"))


async def test_a_missing_kubeconfig_is_a_bad_setting(tmp_path: Path) -> None:
    """The error contains its path."""
    with pytest.raises(SettingsError, match=r"KUBECONFIG .*missing"):
        async with connect(tmp_path / "missing", "hub"):
            pass


@pytest.mark.parametrize(
    "way", ["../pods/other", "..", "../..", "other/status", "other?x=y", "%2e%2e/pods/other"]
)
async def test_a_name_never_leads_to_another_object(kube: HttpKube, way: str) -> None:
    """The name of a grant or of an argument may contain anything."""
    await kube.create(Resource("pods"), a_pod_on_no_node("other"))
    found: Object | None = None
    with suppress(RejectedError):
        found = await kube.get(Resource("configmaps"), way)
    assert found is None
    assert await kube.get(Resource("pods"), "other") is not None


async def test_a_json_patch_takes_an_absent_field_for_null(kube: HttpKube) -> None:
    """So a write can test that a job still has no deadline of its own (spec.md, L8)."""
    await kube.create(PHJOBS, a_job("job-1"))

    def end_if(deadline: int | None) -> list[dict[str, Any]]:
        return [
            {"op": "test", "path": "/spec/activeDeadlineSeconds", "value": deadline},
            {"op": "add", "path": "/status/message", "value": "too long"},
        ]

    with pytest.raises(RejectedError):
        await kube.patch(PHJOBS, "job-1", end_if(60), subresource="status")
    await kube.patch(PHJOBS, "job-1", end_if(None), subresource="status")
    await kube.patch(PHJOBS, "job-1", [{"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 60}])
    with pytest.raises(RejectedError):
        await kube.patch(PHJOBS, "job-1", end_if(None), subresource="status")
    await kube.patch(PHJOBS, "job-1", end_if(60), subresource="status")

"""Denials by an admission webhook, with statuses that otherwise mean something else, on a real API server."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.api import Api
from tests.support.builders import a_job
from tests.support.cluster import Kubectl
from tests.support.waiting import eventually
from tests.support.webhook import NAME, DenyingWebhook, denying

from phjob_core.errors import DeniedError, RejectedError
from phjob_core.resource import Resource
from phjob_kube.http import HttpKube

CONFIG_MAPS = Resource("configmaps")
STATUSES = (400, 401, 403, 404, 409, 410, 422, 429, 500)
MESSAGE = "Group gpu quota exceeded"


def a_config_map(name: str) -> dict[str, object]:
    """Return an object of a kind that every API server has."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


@pytest.fixture
def webhook(kubectl: Kubectl, api: Api, tmp_path: Path) -> Iterator[DenyingWebhook]:
    """A webhook that denies every write to a ConfigMap of the test's namespace."""
    stored = a_config_map("stored")
    api.create(stored)
    rule = {"apiGroups": [""], "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["configmaps"]}
    labels = {"kubernetes.io/metadata.name": api.namespace}
    selectors = {"namespaceSelector": {"matchLabels": labels}}
    webhook = DenyingWebhook(410, MESSAGE)
    with denying(kubectl, tmp_path, webhook, rule, selectors, name=api.namespace):
        create = ("-n", api.namespace, "create", "configmap", "probe", "--dry-run=server")
        eventually(
            lambda: NAME in kubectl(*create).stderr, "the API server calls the webhook",
            diagnostics=lambda: kubectl(*create).stderr,
        )  # fmt: skip
        yield webhook


@pytest.mark.parametrize("operation", ["create", "patch", "replace", "delete"])
async def test_a_denial_is_definite_whatever_its_status(
    kube: HttpKube, api: Api, webhook: DenyingWebhook, operation: str
) -> None:
    """PrimeHub's webhook for quotas denies with 410, which would otherwise mean an expired revision."""
    stored = api.get("ConfigMap", "stored")
    assert stored
    label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    requests: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: kube.create(CONFIG_MAPS, a_config_map("new")),
        "patch": lambda: kube.patch(CONFIG_MAPS, "stored", [label]),
        "replace": lambda: kube.replace(CONFIG_MAPS, "stored", {**stored, "data": {"a": "b"}}),
        "delete": lambda: kube.delete(CONFIG_MAPS, "stored", uid=stored["metadata"]["uid"]),
    }
    for status in STATUSES:
        webhook.status = status
        with pytest.raises(DeniedError) as denied:
            await requests[operation]()
        assert denied.value.status == status
        assert str(denied.value).endswith(f'admission webhook "{NAME}" denied the request: {MESSAGE}')
    assert api.get("ConfigMap", "stored") == stored


async def test_the_api_servers_own_answers_keep_their_meaning(
    kube: HttpKube, api: Api, webhook: DenyingWebhook
) -> None:
    """A missing object is missing, and a name that the webhook does not protect is taken."""
    uid = "d8257cb0-3c89-4243-98c2-cdc737ec61d3"
    assert await kube.delete(CONFIG_MAPS, "none", uid=uid)
    assert await kube.get(CONFIG_MAPS, "none") is None
    jobs = Resource("phjobs", "primehub.io", "v1alpha1")
    job = a_job("taken")
    await kube.create(jobs, job)
    with pytest.raises(RejectedError) as taken:
        await kube.create(jobs, job)
    assert (type(taken.value), taken.value.status) == (RejectedError, 409)

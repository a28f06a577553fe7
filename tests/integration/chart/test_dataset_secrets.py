"""The Secrets of datasets on a real API server, with pod-manager's own account and the chart's policy."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.builders import an_object
from tests.support.chart import Object, Release
from tests.support.cluster import kubectl_for
from tests.support.waiting import eventually

from phjob_kube import config
from phjob_pod_manager.api_retry import ApiRetrier
from phjob_pod_manager.dataset_secrets import DatasetSecrets, SecretRejectedError
from phjob_runtime.clock import SystemClock

ACCOUNT = "phjob-pod-manager"


def a_secret(name: str, **fields: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


@pytest.fixture(scope="module", autouse=True)
def policy(release: Release) -> None:
    """Wait until the policy is in force."""
    kubectl = kubectl_for(release.kubeconfig_of(ACCOUNT))
    create = ("-n", release.namespace, "create", "--dry-run=server", "--validate=false", "-f", "-")
    manifest = json.dumps(a_secret("any"))
    eventually(
        lambda: "may only write the Secrets of datasets" in kubectl(*create, input=manifest).stderr,
        "the policy is in force",
    )


@asynccontextmanager
async def dataset_secrets(release: Release) -> AsyncIterator[DatasetSecrets]:
    """Yield the part of pod-manager, with its own token."""
    async with config.connect(release.kubeconfig_of(ACCOUNT), release.namespace) as api:
        clock = SystemClock()
        yield DatasetSecrets(api, clock, ApiRetrier(clock))


def create_dataset(release: Release, name: str, **variables: Any) -> Object:
    """Apply a dataset with these variables. Returns it as the API server has stored it."""
    manifest = json.dumps(an_object("Dataset", name, {"type": "env", "variables": variables}))
    done = release.kubectl("-n", release.namespace, "apply", "-f", "-", input=manifest)
    assert done.returncode == 0, done.stderr
    return release.get("dataset", name)


async def test_a_datasets_secret_is_created_and_replaced_without_reading_it(release: Release) -> None:
    """Its values are exact, and a variable that the dataset no longer has is gone (spec.md, P8)."""
    async with dataset_secrets(release) as secrets:
        await secrets.ensure(create_dataset(release, "db", password="a\n\n", port=1))
        assert release.secret("phjob-dataset-db", "DB_PASSWORD") == "a\n\n"
        await secrets.ensure(create_dataset(release, "db", user="bob"))
    assert release.get("secret", "phjob-dataset-db")["data"].keys() == {"DB_USER"}


async def test_a_datasets_secret_is_deleted_with_it(release: Release) -> None:
    """Kubernetes' garbage collector does that."""
    async with dataset_secrets(release) as secrets:
        await secrets.ensure(create_dataset(release, "short-lived", password="x"))
    release.get("secret", "phjob-dataset-short-lived")
    release.kubectl("-n", release.namespace, "delete", "dataset", "short-lived")
    names = ("-n", release.namespace, "get", "secrets", "-o", "name")
    eventually(
        lambda: "secret/phjob-dataset-short-lived" not in release.kubectl(*names).stdout,
        "the Secret is gone",
    )


async def test_a_foreign_secret_of_that_name_is_never_changed(release: Release) -> None:
    """The API server keeps its type."""
    release.kubectl(
        "-n", release.namespace, "create", "secret", "generic", "phjob-dataset-theirs", "--from-literal=a=b"
    )
    async with dataset_secrets(release) as secrets:
        with pytest.raises(SecretRejectedError, match="exists and is not PhJob's: an operator has to delete"):
            await secrets.ensure(create_dataset(release, "theirs", password="x"))
    assert release.secret("phjob-dataset-theirs", "a") == "b"


@pytest.mark.parametrize(
    "secret",
    [
        a_secret("another", type="primehub.io/dataset"),
        a_secret("phjob-dataset-another", type="Opaque"),
        a_secret(
            "phjob-dataset-token",
            type="kubernetes.io/service-account-token",
            metadata={
                "name": "phjob-dataset-token",
                "annotations": {"kubernetes.io/service-account.name": "default"},
            },
        ),
    ],
    ids=["another name", "another type", "a token"],
)
def test_pod_manager_can_write_no_other_secret(release: Release, secret: Object) -> None:
    """RBAC cannot express that. The Secret of a service account would be its token (spec.md, I4)."""
    kubectl = kubectl_for(release.kubeconfig_of(ACCOUNT))
    create = ("-n", release.namespace, "create", "--validate=false", "-f", "-")
    done = kubectl(*create, input=json.dumps(secret))
    assert done.returncode != 0
    assert "pod-manager may only write the Secrets of datasets" in done.stderr


def test_the_broker_urls_are_out_of_pod_managers_reach(release: Release) -> None:
    """It neither reads nor replaces the Secret beside those of the datasets."""
    kubectl = kubectl_for(release.kubeconfig_of(ACCOUNT))
    before = release.get("secret", "phjob-broker")["data"]
    body = json.dumps(a_secret("phjob-broker", data={}))
    path = f"/api/v1/namespaces/{release.namespace}/secrets/phjob-broker"
    done = kubectl("replace", "--raw", path, "-f", "-", input=body)
    assert "pod-manager may only write the Secrets of datasets" in done.stderr
    assert kubectl("-n", release.namespace, "get", "secret", "phjob-broker").returncode != 0
    assert release.get("secret", "phjob-broker")["data"] == before

"""A job's pod: the settings reach it, and of the user's own annotations only the permitted ones."""

from collections.abc import Iterator

import pytest
from tests.fakes.pod_annotations import ASKED_FOR
from tests.support.cluster import NAMESPACE, Cluster, cluster_on
from tests.support.group_fixture import GroupFixture
from tests.support.stacks import LocalStack

from dev.stack import Stack

SETTINGS = """
jobSubmission:
  priorityClassName: jobs
  serviceAccountName: jobs
  imagePullSecrets: [{name: registry}]
  extraEnv: [{name: HTTPS_PROXY, value: "http://proxy:3128"}]
  podAnnotations: {example.com/collect-logs: "true"}
  podLabels: {cost-center: research}
  workingDirSize: 1Gi
  ephemeralStorage: 2Gi
"""


@pytest.fixture(scope="module")
def settings_stack(kwok_stack: Stack, local_stack: LocalStack) -> Iterator[Stack]:
    """Start the services with these settings. Afterwards, the stack has the usual ones again."""
    stack = local_stack.start(SETTINGS)
    stack.kubectl("create", "priorityclass", "jobs", "--value=10")
    stack.kubectl("--namespace", NAMESPACE, "create", "serviceaccount", "jobs")
    yield stack
    stack.kubectl("delete", "priorityclass", "jobs")
    stack.kubectl("--namespace", NAMESPACE, "delete", "serviceaccount", "jobs")
    kwok_stack.up()


@pytest.fixture
def settings_cluster(settings_stack: Stack) -> Iterator[Cluster]:
    """Yield the test's cluster on that stack."""
    with cluster_on(settings_stack) as cluster:
        yield cluster


def test_the_pod_has_what_the_administrator_sets_and_nothing_that_the_user_asks_for(
    settings_cluster: Cluster,
) -> None:
    """Annotations ask add-ons of a cluster for privileges (spec.md, P2)."""
    group = GroupFixture(settings_cluster).create()
    manifest = group.job_manifest("job", run_for="1s")
    manifest["metadata"]["annotations"] |= ASKED_FOR
    manifest["metadata"]["labels"] = {"app": "jupyterhub", "primehub.io/user": "escaped-eve"}
    (name,) = settings_cluster.create(manifest)
    status = settings_cluster.wait_for_phase(name, "Succeeded")
    found = settings_cluster.pod(name)
    assert found
    metadata, spec = found.object["metadata"], found.object["spec"]
    assert metadata["annotations"].keys() == {
        *("dev.primehub.io/run-for", "example.com/collect-logs"),
        *("primehub.io/usage", "primehub.io/fence", "primehub.io/attempt"),
    }
    assert metadata["annotations"]["primehub.io/fence"] == status["fence"]
    assert metadata["labels"].keys() == {
        *("app", "cost-center", "primehub.io/group", "primehub.io/user"),
        *("primehub.io/phjob", "primehub.io/phjob-uid"),
    }
    assert (metadata["labels"]["app"], metadata["labels"]["primehub.io/user"]) == (
        "primehub-job",
        "escaped-bob",
    )
    assert (spec["priorityClassName"], spec["serviceAccountName"]) == ("jobs", "jobs")
    assert spec["automountServiceAccountToken"] is False
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    (container,) = spec["containers"]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in container["env"]
    assert status["resources"]["ephemeral-storage"] == "2Gi"
    assert container["resources"]["limits"]["ephemeral-storage"] == "2Gi"

"""A webhook that denies the pods of a group with a status of its own choice, as PrimeHub's does."""

from pathlib import Path

import pytest
from tests.support.cluster import Cluster
from tests.support.group_fixture import GroupFixture
from tests.support.waiting import eventually
from tests.support.webhook import NAME, DenyingWebhook, denying

from phjob_core.labels import GROUP_LABEL, label_value

PODS = {"apiGroups": [""], "operations": ["CREATE"], "resources": ["pods"]}


@pytest.mark.parametrize("status", [401, 404, 409, 410, 500])
def test_a_denied_pod_sends_its_job_back_at_once_with_the_webhooks_words(
    cluster: Cluster, tmp_path: Path, status: int
) -> None:
    """It holds no quota meanwhile, blocks nobody, and runs when the webhook permits it (spec.md, Q5).

    Without this, a 410 would be taken for an expired watch, and a 404 for a pod that is gone.
    """
    group = GroupFixture(cluster, f"denied-{status}", {"groupQuota": {"gpu": 1}}).create()
    webhook = DenyingWebhook(status, "Group gpu quota exceeded: 1 requested, 0 left")
    selector = {"objectSelector": {"matchLabels": {GROUP_LABEL: label_value(group.name)}}}
    name = cluster.unique_name(f"webhook-{status}")
    with denying(cluster.kubectl, tmp_path, webhook, PODS, selector, name=name):
        job = group.submit("job", gpus=1)
        eventually(lambda: cluster.status(job)["requeued"] == 2, f"{job} was requeued twice")
        written = cluster.status(job)
        assert (written["phase"], written["reason"]) == ("Pending", "Requeued")
        assert written["message"].endswith(
            f'admission webhook "{NAME}" denied the request: {webhook.message}'
        )
        assert cluster.pod(job) is None
    cluster.wait_for_phase(group.submit("behind", gpus=1), "Succeeded")
    cluster.wait_for_phase(job, "Succeeded", within=120)

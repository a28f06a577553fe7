import json

import pytest
from tests.fakes.facts import START, a_group, a_job, at
from tests.fakes.group_snapshots import a_notebook, a_snapshot, running

from phjob_cli import serialize
from phjob_cli.console import Console, Format
from phjob_cli.explanation import explain


def keys(data: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the keys of the value in the output of `-o json`."""
    Console().data(data, Format.JSON)
    return list(json.loads(capsys.readouterr().out))


def test_a_job_has_these_keys_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts rely on the keys. Empty fields are left out."""
    job = a_job(
        phase="Failed", reason="Error", message="exit code 1", preparing_time=START, start_time=START,
        finish_time=at(1), requeue_after=START, node="node-1", log_url="file:///logs/attempt-1.log",
    )  # fmt: skip
    assert keys(serialize.job(job), capsys) == [
        "name", "uid", "user", "group", "phase", "reason", "message", "image", "instanceType", "created",
        "preparingTime", "startTime", "finishTime", "requeued", "retried", "requeueAfter", "node", "logUrl",
    ]  # fmt: skip


def test_a_queue_has_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts rely on the keys."""
    job = a_job(instance_type="gpu-4")
    snapshot = a_snapshot(a_notebook(1), job, *running("long", 1, active_deadline_seconds=60))
    data = serialize.queue(snapshot, [job], snapshot.estimates([job.uid]))
    assert keys(data, capsys) == [
        "group", "waiting", "used", "groupQuota", "userQuota", "held", "waitingNotebooks", "queue"
    ]  # fmt: skip
    assert keys(data["queue"][0], capsys) == [
        "place", "name", "user", "needs", "created", "waitsFor", "estimate"
    ]  # fmt: skip
    assert (data["waiting"], data["queue"][0]["place"]) == (1, 1)
    assert data["queue"][0]["needs"] == {"cpu": "1", "nvidia.com/gpu": "4", "gpu": "4"}
    kinds = {held["name"]: held["kind"] for held in data["held"]}
    assert kinds == {"jupyter-lin": "notebook", "long": "job"}
    assert keys(data["held"][1], capsys) == ["name", "user", "kind", "amounts", "since", "latest"]


def test_an_explanation_has_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts rely on the keys."""
    job = a_job(instance_type="gpu-4", reason="GroupQuota")
    data = serialize.explanation(explain(a_snapshot(job, *running("long", 1)), job))
    assert keys(data, capsys) == [
        "name", "user", "group", "phase", "reason", "cause", "why", "since", "place", "waiting", "ahead",
        "aheadInAll", "held", "lacks", "estimate", "nextStep",
    ]  # fmt: skip


def test_an_explanation_of_a_finished_job_has_no_place() -> None:
    """Only pending jobs are in a queue."""
    job = a_job(phase="Succeeded", finish_time=at(1))
    data = serialize.explanation(explain(a_snapshot(job), job))
    assert (data["place"], data["waiting"], data["ahead_in_all"]) == (None, None, None)


def test_a_group_has_the_status_without_the_services_token() -> None:
    """`status.fence` means nothing to users."""
    phgroup = {"metadata": {"name": "phg-1"}, "spec": {"groupName": "vision"}}
    assert serialize.group({**phgroup, "status": {"pending": 2, "fence": 7}}) == {
        "group": "vision",
        "pending": 2,
    }
    assert serialize.group(phgroup) == {"group": "vision"}


def test_a_group_without_a_group_name_has_the_name_of_its_object() -> None:
    """`spec.groupName` is optional."""
    assert serialize.group_name({"metadata": {"name": "vision"}, "spec": {}}) == "vision"
    assert a_group("vision").group == "vision"

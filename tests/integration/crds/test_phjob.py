"""PhJob on a real API server: what it fills in, what may change and what not, what is read.

Only kubectl speaks here, as a user does. What the services do with the objects is tested elsewhere.
"""

import json
import re

import pytest
from tests.integration.crds.manifests import (
    EXAMPLES,
    FINAL,
    NEW,
    answer,
    example,
    job,
    patch,
    read,
    set_phase,
    thing,
)
from tests.support.hub import Kubectl


def test_the_seeds_example_applies_word_for_word_and_reads_pending(kubectl: Kubectl, namespace: str) -> None:
    """Its own `status: {phase: pending}` is dropped; nobody had to write one."""
    done = kubectl("apply", "-f", "-", input=example("11-job-qm42d.yaml", namespace))
    assert answer(done) == "phjob.primehub.io/job-qm42d created"
    found = read(kubectl, namespace, "phj/job-qm42d")
    assert found["status"] == NEW
    assert found["spec"]["cancel"] is False
    assert found["spec"]["command"] == 'echo "start"\n'


def test_a_job_applied_again_after_it_finished_stays_as_it_is(kubectl: Kubectl, namespace: str) -> None:
    """`kubectl apply -f` of a folder may be repeated at any time."""
    manifest = example("11-job-qm42d.yaml", namespace)
    kubectl("apply", "-f", "-", input=manifest)
    set_phase(kubectl, namespace, "job-qm42d", "Succeeded")
    assert kubectl("apply", "-f", "-", input=manifest).returncode == 0
    assert read(kubectl, namespace, "phj/job-qm42d")["status"]["phase"] == "Succeeded"


def test_the_examples_apply_in_one_go(kubectl: Kubectl, namespace: str) -> None:
    """In the order of the files' names, without a warning."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    done = kubectl("apply", "-f", "-", input="\n---\n".join(example(file.name, namespace) for file in files))
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= len(files)


def test_the_server_can_choose_a_jobs_name(kubectl: Kubectl, namespace: str) -> None:
    """The bound on names leaves room for generateName."""
    manifest = json.loads(job(namespace))
    manifest["metadata"] = {
        "generateName": "a-long-prefix-that-the-server-cuts-to-make-its-suffix-fit-in-",
        "namespace": namespace,
    }
    assert kubectl("create", "-f", "-", input=json.dumps(manifest)).returncode == 0


def test_a_transition_can_test_the_status_that_nobody_wrote(kubectl: Kubectl, namespace: str) -> None:
    """The compare-and-swap of an admission works on a new job, and whoever comes second loses."""
    kubectl("create", "-f", "-", input=job(namespace))
    admit = json.dumps(
        [
            {"op": "test", "path": "/status/phase", "value": "Pending"},
            {"op": "test", "path": "/status/fence", "value": ""},
            {"op": "replace", "path": "/status/phase", "value": "Preparing"},
        ]
    )
    both = [
        kubectl(
            "-n", namespace, "patch", "phj", "job-1", "--subresource", "status", "--type", "json", "-p", admit
        )
        for _ in range(2)
    ]
    assert answer(both[0]) == "phjob.primehub.io/job-1 patched"
    assert (
        answer(both[1])
        == "The request is invalid: the server rejected our request due to an error in our request"
    )


@pytest.mark.parametrize(
    "field", ["command", "userName", "userId", "groupName", "groupId", "image", "instanceType"]
)
def test_what_a_job_runs_cannot_be_changed(kubectl: Kubectl, namespace: str, field: str) -> None:
    """Neither to another value nor, where it is optional, to none."""
    kubectl("create", "-f", "-", input=job(namespace, userId="u", groupId="g"))
    refused = (
        f'The PhJob "job-1" is invalid: spec.{field}: Forbidden: '
        f"spec.{field} cannot be changed after creation; create a new PhJob"
    )
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {field: "other"}})) == refused
    assert patch(kubectl, namespace, "phj/job-1", {"spec": {field: None}}).returncode == 1


@pytest.mark.parametrize("field", ["userId", "groupId"])
def test_an_id_cannot_be_added_later(kubectl: Kubectl, namespace: str, field: str) -> None:
    """Absent is a value like another."""
    kubectl("create", "-f", "-", input=job(namespace))
    assert f"spec.{field} cannot be changed" in answer(
        patch(kubectl, namespace, "phj/job-1", {"spec": {field: "x"}})
    )


def test_deadlines_title_and_cancel_can_be_changed_on_a_running_job(kubectl: Kubectl, namespace: str) -> None:
    """All five in one edit."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", "Running")
    edit = {
        "displayName": "Better",
        "activeDeadlineSeconds": 0,
        "ttlSecondsAfterFinished": 60,
        "requeueLimit": 3,
        "cancel": True,
    }
    assert patch(kubectl, namespace, "phj/job-1", {"spec": edit}).returncode == 0
    assert {key: read(kubectl, namespace, "phj/job-1")["spec"][key] for key in edit} == edit


@pytest.mark.parametrize("value", [False, None])
def test_a_cancel_cannot_be_taken_back(kubectl: Kubectl, namespace: str, value: object) -> None:
    """Setting it to false and leaving it out are the same."""
    kubectl("create", "-f", "-", input=job(namespace, cancel=True))
    refused = (
        'The PhJob "job-1" is invalid: spec.cancel: Forbidden: '
        "spec.cancel cannot be taken back; create a new PhJob"
    )
    assert answer(patch(kubectl, namespace, "phj/job-1", {"spec": {"cancel": value}})) == refused


@pytest.mark.parametrize("phase", FINAL)
def test_a_finished_job_stays_finished(kubectl: Kubectl, namespace: str, phase: str) -> None:
    """No other phase, none at all, no other end; the rest of its status may still be written."""
    kubectl("create", "-f", "-", input=job(namespace))
    set_phase(kubectl, namespace, "job-1", phase)
    refused = (
        'The PhJob "job-1" is invalid: status.phase: Forbidden: '
        "a finished job stays finished; create a new PhJob"
    )
    for other in {None, "Pending", "Running", *FINAL} - {phase}:
        assert answer(set_phase(kubectl, namespace, "job-1", other)) == refused
    assert (
        answer(patch(kubectl, namespace, "phj/job-1", {"status": None}, "--subresource", "status")) == refused
    )
    after = {"status": {"logURL": "file:///logs/job-1", "reclaimed": True}}
    assert patch(kubectl, namespace, "phj/job-1", after, "--subresource", "status").returncode == 0


def test_field_selectors_find_jobs_by_phase_group_and_reclaimed(kubectl: Kubectl, namespace: str) -> None:
    """Also those whose status nobody has written yet."""
    for name, group in (("new", "a"), ("running", "a"), ("done", "b")):
        kubectl("create", "-f", "-", input=job(namespace, name, groupName=group))
    set_phase(kubectl, namespace, "running", "Running")
    patch(
        kubectl,
        namespace,
        "phj/done",
        {"status": {"phase": "Failed", "reclaimed": True}},
        "--subresource",
        "status",
    )

    def found(selector: str) -> list[str]:
        return kubectl(
            "-n", namespace, "get", "phj", "--field-selector", selector, "-o", "name"
        ).stdout.split()

    assert found("status.phase=Pending") == ["phjob.primehub.io/new"]
    assert found("status.phase=Failed") == ["phjob.primehub.io/done"]
    assert found("status.reclaimed!=true") == ["phjob.primehub.io/new", "phjob.primehub.io/running"]
    assert found("status.reclaimed!=true,spec.groupName=a,status.phase=Running") == [
        "phjob.primehub.io/running"
    ]


def test_get_shows_who_where_and_why(kubectl: Kubectl, namespace: str) -> None:
    """The columns are those of the contract, in its order."""
    kubectl("create", "-f", "-", input=job(namespace))
    short, wide = (
        kubectl("-n", namespace, "get", "phj", *more).stdout.splitlines() for more in ((), ("-o", "wide"))
    )
    assert short[0].split() == ["NAME", "USER", "GROUP", "STATUS", "REASON", "AGE"]
    assert short[1].split()[:5] == ["job-1", "jackpan", "phusers", "Pending", "Queued"]
    assert wide[0].split() == [
        "NAME",
        "USER",
        "GROUP",
        "STATUS",
        "REASON",
        "AGE",
        "INSTANCE",
        "NODE",
        "MESSAGE",
    ]


def test_a_group_shows_how_full_it_is(kubectl: Kubectl, namespace: str) -> None:
    """As reported, beside its quota."""
    kubectl("create", "-f", "-", input=thing("PhGroup", namespace, {"groupQuota": {"cpu": 4, "gpu": 2}}))
    status = {
        "pending": 3,
        "preparing": 0,
        "running": 2,
        "used": {"cpu": "3500m", "gpu": 2},
        "limit": {"cpu": 4, "gpu": 2},
        "head": "job-9",
    }
    assert patch(kubectl, namespace, "phg/one", {"status": status}, "--subresource", "status").returncode == 0
    header, row = kubectl("-n", namespace, "get", "phg", "-o", "wide").stdout.splitlines()
    assert header.split()[:6] == ["NAME", "PENDING", "PREPARING", "RUNNING", "HEAD", "AGE"]
    columns = {found[0]: row[found.start() :].split(" ")[0] for found in re.finditer(r"\S+", header)}
    expected = {
        "NAME": "one",
        "PENDING": "3",
        "PREPARING": "0",
        "RUNNING": "2",
        "HEAD": "job-9",
        "CPU": "3500m",
        "CPU-QUOTA": "4",
        "GPU": "2",
    }
    assert {name: columns[name] for name in expected} == expected

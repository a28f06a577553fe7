"""Attacks on identity, status and ownership, which the real API server refuses.

The attackers have accounts and tokens of their own:

- mallory is a submitter, as every user is.
- adam has every right on jobs and groups, as many administrators' roles have, and no other.

`test_pod_attacks` has the attacks on pods, and those on everything else in the namespace.
"""

import json
import secrets
from typing import Any

import pytest
from tests.support.api import Api
from tests.support.attackers import Attacker, assert_refused, grant
from tests.support.builders import a_group, a_job
from tests.support.chart import Release
from tests.support.waiting import eventually

from .conftest import VELERO, KubectlAs, submit

BOB = "bob"
JOBS = "/apis/primehub.io/v1alpha1/namespaces/{}/phjobs"
FOREIGN = "this job is of bob"
FINALIZERS = "metadata.finalizers of a job may be changed by operators only"
OWNERS = "metadata.ownerReferences of a job may be changed by operators only"
ORPHAN = "only operators may delete a job without its pod"
STATUS = "only pod-manager writes the status of jobs and groups"


def own_job(attacker: Attacker) -> str:
    """Submit a job of the attacker's own, which waits. Returns its name."""
    name = f"own-{secrets.token_hex(4)}"
    done = attacker("create", "-f", "-", input=a_job(name, user=attacker.user))
    assert done.returncode == 0, done.stderr
    return name


# --- as another user ---


@pytest.mark.parametrize(
    ("command", "metadata"),
    [
        ("create", {"name": "forged"}),
        ("create", {"generateName": "forged-"}),
        ("create --dry-run=server", {"generateName": "forged-"}),
        ("apply", {"name": "forged"}),
        ("apply --server-side", {"name": "forged"}),
    ],
)
def test_submit_as_another_user(mallory: Attacker, command: str, metadata: dict[str, str]) -> None:
    """The name of the job is not part of the check."""
    job = {**a_job("forged", user=BOB), "metadata": metadata}
    refused = f"spec.userName is bob, but you are {mallory.user}: only the user of a job may submit it"
    assert_refused(mallory(*command.split(), "-f", "-", input=job), refused)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("patch", ("--type=merge", "-p", '{"spec":{"cancel":true}}')),
        ("patch", ("--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}')),
        ("patch", ("--type=json", "-p", '[{"op":"add","path":"/spec/ttlSecondsAfterFinished","value":1}]')),
        ("annotate", ("dev.primehub.io/run-for=1s",)),
        ("label", ("owner=mallory",)),
        ("delete", ()),
        ("delete", ("--cascade=foreground",)),
        ("delete", ("--cascade=orphan",)),
        ("delete", ("--force", "--grace-period=0")),
    ],
)
def test_change_or_delete_the_job_of_another_user(
    mallory: Attacker, kubectl_as: KubectlAs, bobs_job: str, verb: str, options: tuple[str, ...]
) -> None:
    """Nothing of the job changes."""
    before = kubectl_as(BOB, "get", bobs_job, "-o", "json").stdout
    assert_refused(mallory(verb, bobs_job, *options), FOREIGN, "only its user or an operator may change")
    assert kubectl_as(BOB, "get", bobs_job, "-o", "json").stdout == before


@pytest.mark.parametrize(
    ("change", "words"),
    [({"displayName": "mine"}, FOREIGN), ({"userName": "mallory"}, "spec.userName cannot be changed")],
    ids=["title", "user"],
)
@pytest.mark.parametrize("command", ["replace", "apply --server-side --force-conflicts"])
def test_replace_the_job_of_another_user(
    mallory: Attacker, kubectl_as: KubectlAs, bobs_job: str, command: str, change: dict[str, str], words: str
) -> None:
    """Neither replacing nor applying it makes it the attacker's."""
    job = json.loads(kubectl_as(BOB, "get", bobs_job, "-o", "json").stdout)
    job["spec"] |= change
    job["metadata"] = {key: job["metadata"][key] for key in ("name", "uid")}
    assert_refused(mallory(*command.split(), "-f", "-", input=job), words)


def test_give_a_job_to_another_user(mallory: Attacker) -> None:
    """A job keeps the user that it was created with."""
    done = mallory.merge("phjob", own_job(mallory), {"spec": {"userName": BOB}})
    assert_refused(done, "spec.userName cannot be changed after creation")


def test_delete_all_jobs_at_once(mallory: Attacker, release: Release, bobs_job: str) -> None:
    """The role has no `deletecollection`."""
    done = mallory("delete", "--raw", JOBS.format(release.namespace))
    assert_refused(done, 'cannot deletecollection resource "phjobs"')


def test_delete_all_jobs_at_once_with_the_right_to(
    release: Release, kubectl_as: KubectlAs, bobs_job: str
) -> None:
    """With a right that the chart grants nobody but operators, each job's user still counts."""
    grant(release, "lin", "deletecollection", "phjobs.primehub.io")
    done = kubectl_as("lin", "delete", "--raw", JOBS.format(release.namespace))
    assert_refused(done, "and you are lin: only its user or an operator may")
    assert kubectl_as(BOB, "get", bobs_job).returncode == 0


def test_impersonate(mallory: Attacker, release: Release) -> None:
    """Neither a user nor one of the product's own accounts."""
    for user in (BOB, release.account_user("phjob-pod-manager")):
        assert_refused(mallory("get", "phjobs", f"--as={user}"), "is forbidden", "cannot impersonate")


def test_act_through_an_unrelated_account_of_kube_system(
    release: Release, bobs_job: str, kubectl_as: KubectlAs
) -> None:
    """Only the accounts that collect garbage and delete namespaces are exempt, not their whole namespace."""
    release.bind_role("submitter", "--serviceaccount=kube-system:an-add-on")
    done = kubectl_as("system:serviceaccount:kube-system:an-add-on", "delete", bobs_job)
    assert_refused(done, FOREIGN)


# --- the status ---


def test_write_the_status_when_creating_a_job(mallory: Attacker) -> None:
    """The API server ignores it."""
    admitted = {"phase": "Preparing", "fence": "x", "podUID": "y", "resources": {"cpu": "1m"}}
    job = {**a_job(f"status-{secrets.token_hex(4)}", user=mallory.user), "status": admitted}
    done = mallory("create", "-f", "-", "-o", "jsonpath={.status}", input=job)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert (status["phase"], status["reason"], status["fence"]) == ("Pending", "Queued", "")
    assert "podUID" not in status
    assert "resources" not in status


def test_write_the_status_through_the_job_itself(mallory: Attacker) -> None:
    """The API server ignores it."""
    name = own_job(mallory)
    done = mallory.merge("phjob", name, {"status": {"phase": "Preparing"}}, "-o", "jsonpath={.status.phase}")
    assert (done.returncode, done.stdout) == (0, "Pending")


@pytest.mark.parametrize("verb", ["patch", "replace"])
def test_write_the_status_of_ones_own_job(mallory: Attacker, verb: str) -> None:
    """The role has no right on the status."""
    name = own_job(mallory)
    if verb == "patch":
        done = mallory.merge("phjob", name, {"status": {"phase": "Preparing"}}, "--subresource=status")
    else:
        job = json.loads(mallory("get", "phjob", name, "-o", "json").stdout)
        done = mallory("replace", "--subresource=status", "-f", "-", input=job)
    assert_refused(done, "phjobs/status")


@pytest.mark.parametrize("kind", ["phjob", "phgroup"])
def test_write_a_status_with_every_right_on_the_kind(adam: Attacker, kind: str) -> None:
    """Only pod-manager may. The message says how an administrator repairs a status by hand."""
    name = f"of-adam-{secrets.token_hex(4)}"
    manifest = a_job(name, user=BOB) if kind == "phjob" else a_group(name)
    assert adam("create", "-f", "-", input=manifest).returncode == 0
    forged: dict[str, Any] = {"phase": "Preparing", "fence": "x", "resources": {"cpu": "1m"}}
    status = forged if kind == "phjob" else {"used": {"gpu": 0}, "fence": "x"}
    done = adam.merge(kind, name, {"status": status}, "--subresource=status")
    assert_refused(done, STATUS, f"--as={adam.release.account_user('phjob-pod-manager')}")


def test_scale_a_job(mallory: Attacker) -> None:
    """A PhJob has no such subresource."""
    assert_refused(mallory("scale", "phjob", own_job(mallory), "--replicas=0"), "phjobs")


def test_the_status_is_still_written_by_those_who_may(
    release: Release, kubectl_as: KubectlAs, bobs_job: str
) -> None:
    """They are pod-manager and the accounts in `identity.statusWriters`. Otherwise, no refusal is a proof."""
    restorer = release.account_user(VELERO)
    grant(release, restorer, "get,patch", "phjobs.primehub.io", "phjobs.primehub.io/status")
    options = ("--subresource=status", "--type=merge", "-p", '{"status":{"message":"restored"}}')
    done = kubectl_as(restorer, "patch", bobs_job, *options)
    assert done.returncode == 0, done.stderr
    pod_manager = Api(release.kubeconfig_of("phjob-pod-manager"), release.namespace)
    change = {"status": {"message": "written"}}
    job = pod_manager.merge_patch("PhJob", bobs_job.partition("/")[2], change, subresource="status")
    assert job["status"]["message"] == "written"


# --- finalizers, owners, and deletion without the pod ---


@pytest.mark.parametrize("finalizer", ["mallory.example.com/keep", "orphan", "foregroundDeletion"])
def test_set_a_finalizer(mallory: Attacker, finalizer: str) -> None:
    """Neither at creation nor later. `orphan` would have the effect of `--cascade=orphan`."""
    job = a_job(f"final-{secrets.token_hex(4)}", user=mallory.user)
    job["metadata"]["finalizers"] = [finalizer]
    assert_refused(mallory("create", "-f", "-", input=job), FINALIZERS)
    change = {"metadata": {"finalizers": [finalizer]}}
    assert_refused(mallory.merge("phjob", own_job(mallory), change), FINALIZERS)


def test_remove_a_finalizer_of_another_tool(mallory: Attacker, release: Release) -> None:
    """An operator's tool may keep a record until it is copied."""
    name = own_job(mallory)
    change = '{"metadata":{"finalizers":["backup.example.com/record"]}}'
    keep = ("-n", release.namespace, "patch", "phjob", name, "--type=merge", "-p", change)
    assert release.kubectl(*keep).returncode == 0
    assert_refused(mallory.merge("phjob", name, {"metadata": {"finalizers": []}}), FINALIZERS)


def test_make_the_job_of_another_user_the_owner(
    mallory: Attacker, kubectl_as: KubectlAs, bobs_job: str
) -> None:
    """With a finalizer, it would delay the foreground deletion of that job for ever."""
    uid = kubectl_as(BOB, "get", bobs_job, "-o", "jsonpath={.metadata.uid}").stdout
    owner = {
        "apiVersion": "primehub.io/v1alpha1",
        "kind": "PhJob",
        "name": bobs_job.partition("/")[2],
        "uid": uid,
    }
    job = a_job(f"owned-{secrets.token_hex(4)}", user=mallory.user)
    job["metadata"]["ownerReferences"] = [owner]
    assert_refused(mallory("create", "-f", "-", input=job), OWNERS)
    change = {"metadata": {"ownerReferences": [owner]}}
    assert_refused(mallory.merge("phjob", own_job(mallory), change), OWNERS)


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (("--cascade=orphan",), None),
        (("?propagationPolicy=Orphan",), None),
        (("?orphanDependents=true",), None),
        (("",), {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}),
        (("",), {"kind": "DeleteOptions", "apiVersion": "v1", "orphanDependents": True}),
    ],
    ids=["kubectl", "query", "old query", "body", "old body"],
)
def test_delete_a_job_without_its_pod(mallory: Attacker, options: tuple[str, ...], body: object) -> None:
    """The command would run on without a deadline, a TTL and a record."""
    name = own_job(mallory)
    if options == ("--cascade=orphan",):
        done = mallory("delete", "phjob", name, *options)
    else:
        raw = f"{JOBS.format(mallory.release.namespace)}/{name}{options[0]}"
        done = mallory("delete", "--raw", raw, *(("-f", "-") if body else ()), input=body)
    assert_refused(done, ORPHAN)
    assert mallory("get", "phjob", name).returncode == 0


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_user_still_deletes_their_own_job(mallory: Attacker, cascade: str) -> None:
    """In the foreground, the garbage collector removes its own finalizer from the job."""
    name = own_job(mallory)
    assert mallory("delete", "phjob", name, f"--cascade={cascade}", "--wait=false").returncode == 0
    eventually(
        lambda: not mallory("get", "phjob", name, "--ignore-not-found").stdout, f"job {name} is deleted"
    )


def test_an_operator_may_delete_a_job_without_its_pod(kubectl_as: KubectlAs, bobs_job: str) -> None:
    """The garbage collector then removes its own finalizer. pod-manager deletes the pod (spec.md, L16)."""
    done = kubectl_as("olga", "delete", bobs_job, "--cascade=orphan", "--wait=false")
    assert done.returncode == 0, done.stderr
    eventually(
        lambda: not kubectl_as("olga", "get", bobs_job, "--ignore-not-found").stdout, "the job is deleted"
    )


@pytest.mark.parametrize(
    "user",
    [
        "system:serviceaccount:kube-system:generic-garbage-collector",
        "system:serviceaccount:kube-system:namespace-controller",
        "system:kube-controller-manager",
    ],
)
def test_controllers_of_kubernetes_may_delete_any_job(
    release: Release, kubectl_as: KubectlAs, bobs_job: str, user: str
) -> None:
    """The last one is the user of all controllers that have no accounts of their own."""
    grant(release, user, "get,patch,delete", "phjobs.primehub.io")
    change = ("--type=merge", "-p", '{"metadata":{"finalizers":["orphan"]}}')
    eventually(lambda: kubectl_as(user, "patch", bobs_job, *change).returncode == 0, "a finalizer is set")
    done = kubectl_as(user, "delete", bobs_job, "--cascade=background")
    assert done.returncode == 0, done.stderr


def test_a_user_may_still_submit(kubectl_as: KubectlAs) -> None:
    """Without this, the refusals would prove nothing."""
    done = submit(kubectl_as, BOB, BOB)
    assert done.returncode == 0, done.stderr

from typing import Any

import pytest
from tests.fakes.facts import a_job, a_pod
from tests.fakes.objects import a_phjob_object, a_pod_object, an_object

from phjob_core.kinds import KIND_OF, KINDS, PHJOBS, PODS, Kind, Subscriber
from phjob_core.messages import MESSAGES, Fact, JobGone, JobSeen, PodGone


def an_object_of(kind: Kind) -> dict[str, Any]:
    match kind.plural:
        case "phjobs":
            return a_phjob_object()
        case "pods":
            return a_pod_object()
    return an_object()


def plural(kind: Kind) -> str:
    return kind.plural


def test_every_fact_belongs_to_exactly_one_kind() -> None:
    """A fact without a kind would have no subscribers, and would be lost without an error."""
    facts = {message for message in MESSAGES if issubclass(message, Fact)}
    assert set(KIND_OF) == facts
    assert len(facts) == 2 * len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=plural)
def test_an_object_becomes_the_kinds_observed_message(kind: Kind) -> None:
    """The projection and the message class of an entry belong together."""
    item = an_object_of(kind)
    seen = kind.project(item, None)
    assert type(seen) is kind.observed
    assert (seen.uid, seen.name, seen.resource_version) == (
        item["metadata"]["uid"],
        item["metadata"]["name"],
        42,
    )


@pytest.mark.parametrize("kind", KINDS, ids=plural)
def test_a_deletion_keeps_the_identity_and_has_a_revision_of_its_own(kind: Kind) -> None:
    """A deletion has the revision at which it happened, so that it is newer than the last state."""
    item = an_object_of(kind)
    gone = kind.deletion(kind.project(item, None), 43)
    assert type(gone) is kind.deleted
    assert (gone.uid, gone.name, gone.resource_version) == (
        item["metadata"]["uid"],
        item["metadata"]["name"],
        43,
    )


def test_a_new_generation_alone_is_no_change() -> None:
    """Every edit of a spec has one, also of a field that no service reads."""
    seen = a_job(generation=1)
    assert not PHJOBS.has_changed(seen, seen.model_copy(update={"generation": 2}))
    assert PHJOBS.has_changed(seen, seen.model_copy(update={"generation": 2, "cancel": True}))


def test_an_edit_that_no_service_reads_is_no_change() -> None:
    """A user who changes `displayName` in a loop occupies nobody. Only the first edit matters: see below."""
    item = a_phjob_object(revision=40)
    seen = PHJOBS.project(item, None)
    titled: dict[str, Any] = {
        **item,
        "metadata": {**item["metadata"], "resourceVersion": "43", "generation": 7},
    }
    titled["spec"] = {**item["spec"], "displayName": "again"}
    assert not PHJOBS.has_changed(seen, PHJOBS.project(titled, seen))
    cancelled = {**titled, "spec": {**titled["spec"], "cancel": True}}
    assert PHJOBS.has_changed(seen, PHJOBS.project(cancelled, seen))


def test_the_first_edit_of_a_job_whose_revision_is_not_recorded_is_a_change() -> None:
    """The scheduler then records it. Without this, the job could lose its position (spec.md, Q1)."""
    item = a_phjob_object()
    seen = PHJOBS.project(item, None)
    first, second = (
        {**item, "metadata": {**item["metadata"], "resourceVersion": revision}} for revision in ("43", "44")
    )
    edited = PHJOBS.project(first, seen)
    assert PHJOBS.has_changed(seen, edited)
    assert not PHJOBS.has_changed(edited, PHJOBS.project(second, edited))


def test_a_deletion_copies_the_fields_that_route_it() -> None:
    """Subscribers of other shards must not get it, and the scheduler needs the job of a pod."""
    job = a_job(group="vision")
    assert PHJOBS.deletion(job, 9) == JobGone(uid=job.uid, name=job.name, resource_version=9, group="vision")
    pod = a_pod(job, deleting=True)
    gone = PODS.deletion(pod, 9)
    assert isinstance(gone, PodGone)
    assert (gone.group, gone.job_uid, gone.never_started) == (pod.group, job.uid, True)


def test_a_job_keeps_its_revision_at_creation_from_the_previous_message() -> None:
    """Every write changes the resourceVersion, and the order of a queue must not change with it."""
    item = an_object_of(PHJOBS)
    first = PHJOBS.project(item, None)
    second = PHJOBS.project({**item, "metadata": {**item["metadata"], "resourceVersion": "50"}}, first)
    assert isinstance(second, JobSeen)
    assert (second.revision, second.resource_version) == (42, 50)


def test_the_watcher_observes_no_reclaimed_jobs() -> None:
    """The history of finished jobs may be large; no service needs it in memory."""
    assert PHJOBS.watched.field_selector == "status.reclaimed!=true"
    assert PHJOBS.resource.field_selector == ""


def test_jobs_come_before_pods() -> None:
    """A snapshot lists them in this order: an admission that is listed has its pod listed, too."""
    assert KINDS.index(PHJOBS) < KINDS.index(PODS)


@pytest.mark.parametrize("kind", KINDS, ids=plural)
def test_every_kind_has_a_subscriber(kind: Kind) -> None:
    """Otherwise the watcher would list and watch it without a use."""
    assert kind.subscribers
    assert set(kind.subscribers) <= set(Subscriber)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (PHJOBS, "/apis/primehub.io/v1alpha1/namespaces/hub/phjobs"),
        (PODS, "/api/v1/namespaces/hub/pods"),
        (KINDS[-1], "/api/v1/nodes"),
    ],
)
def test_paths_follow_the_api_conventions(kind: Kind, path: str) -> None:
    """Custom resources, core resources, and objects of the cluster."""
    assert kind.resource.path("hub") == path

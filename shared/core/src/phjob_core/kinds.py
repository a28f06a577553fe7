"""The registry of all kinds of objects that the watcher observes. Pure.

An entry connects a kind's path in the API, its two messages, its projection, and the services that
subscribe to it. A new kind is a new entry here, and a case in the handler of each subscriber.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from phjob_core import catalog_projection, projection
from phjob_core.api import GROUP, VERSION, Object
from phjob_core.messages import (
    DatasetGone,
    DatasetSeen,
    Fact,
    GroupGone,
    GroupSeen,
    ImageGone,
    ImageSeen,
    InstanceTypeGone,
    InstanceTypeSeen,
    JobGone,
    JobSeen,
    NodeGone,
    NodeSeen,
    PodGone,
    PodSeen,
)
from phjob_core.resource import Resource


class Subscriber(StrEnum):
    """A service that the watcher publishes facts to, by the name of its queues."""

    SCHEDULER = "scheduler"
    JANITOR = "janitor"
    POD_MANAGER = "pod-manager"


@dataclass(frozen=True)
class Kind:
    """A kind of objects."""

    resource: Resource
    """All objects of the kind, in the API."""
    observed: type[Fact]
    """The message about an object's state."""
    deleted: type[Fact]
    """The message about an object's deletion."""
    project: Callable[[Object, Any], Fact]
    """Makes the `observed` message of an object, given the previous message about it, or None."""
    subscribers: tuple[Subscriber, ...]
    watch_selector: str = ""
    """The field selector of the objects that the watcher observes."""
    copied_fields: tuple[str, ...] = ()
    """The fields of the last `observed` message that the `deleted` message has too, beside uid and name."""

    @property
    def plural(self) -> str:
        """Return the kind's name in paths, and in the revisions of a snapshot."""
        return self.resource.plural

    @property
    def watched(self) -> Resource:
        """Return the objects of the kind that the watcher observes."""
        return replace(self.resource, field_selector=self.watch_selector)

    def has_changed(self, previous: Fact, fact: Fact) -> bool:
        """Return whether a reader may need the new state of an object.

        Every write to an object changes its resourceVersion. Without this, a user who edits what no service
        reads, such as `displayName`, could occupy every service.
        """
        match previous, fact:
            case JobSeen(lacks_revision=False), JobSeen(lacks_revision=True):
                return True  # The scheduler has to record its revision.
            case JobSeen(), JobSeen():
                previous = previous.model_copy(update={"generation": fact.generation})
        return previous.model_copy(update={"resource_version": fact.resource_version}) != fact

    def deletion(self, last: Fact, revision: int) -> Fact:
        """Return the message that an object was deleted at `revision`. `last` is its last state."""
        copied = {field: getattr(last, field) for field in ("uid", "name", *self.copied_fields)}
        return self.deleted(**copied, resource_version=revision)


def _custom(plural: str) -> Resource:
    return Resource(plural, GROUP, VERSION)


def _project_job(item: Object, previous: JobSeen | None) -> JobSeen:
    """Return the message about a PhJob.

    Only the previous message has the revision at creation, until the status records it.
    """
    return projection.project_job(item, previous.revision if previous else None)


PHJOBS = Kind(
    resource=_custom("phjobs"),
    observed=JobSeen,
    deleted=JobGone,
    project=_project_job,
    subscribers=(Subscriber.SCHEDULER, Subscriber.JANITOR, Subscriber.POD_MANAGER),
    watch_selector="status.reclaimed!=true",
    copied_fields=("group",),
)
# The watcher lists all pods of the namespace. With a selector by label, it would lose a job's pod whose
# label somebody removes, and that pod's resources would no longer count.
PODS = Kind(
    resource=Resource("pods"),
    observed=PodSeen,
    deleted=PodGone,
    project=lambda item, _: projection.project_pod(item),
    subscribers=(Subscriber.SCHEDULER, Subscriber.POD_MANAGER),
    copied_fields=("group", "job_uid", "never_started"),
)
PHGROUPS = Kind(
    resource=_custom("phgroups"),
    observed=GroupSeen,
    deleted=GroupGone,
    project=lambda item, _: catalog_projection.project_group(item),
    subscribers=(Subscriber.SCHEDULER, Subscriber.JANITOR, Subscriber.POD_MANAGER),
    copied_fields=("group",),
)
INSTANCE_TYPES = Kind(
    resource=_custom("instancetypes"),
    observed=InstanceTypeSeen,
    deleted=InstanceTypeGone,
    project=lambda item, _: catalog_projection.project_instance_type(item),
    subscribers=(Subscriber.SCHEDULER, Subscriber.POD_MANAGER),
)
IMAGES = Kind(
    resource=_custom("images"),
    observed=ImageSeen,
    deleted=ImageGone,
    project=lambda item, _: catalog_projection.project_image(item),
    subscribers=(Subscriber.SCHEDULER, Subscriber.POD_MANAGER),
)
DATASETS = Kind(
    resource=_custom("datasets"),
    observed=DatasetSeen,
    deleted=DatasetGone,
    project=lambda item, _: catalog_projection.project_dataset(item),
    subscribers=(Subscriber.POD_MANAGER,),
)
NODES = Kind(
    resource=Resource("nodes", namespaced=False),
    observed=NodeSeen,
    deleted=NodeGone,
    project=lambda item, _: catalog_projection.project_node(item),
    subscribers=(Subscriber.JANITOR, Subscriber.POD_MANAGER),
)

KINDS: tuple[Kind, ...] = (PHJOBS, PODS, PHGROUPS, INSTANCE_TYPES, IMAGES, DATASETS, NODES)
"""All kinds, in the order in which a snapshot lists them.

Jobs come before pods. Otherwise a job could be listed as admitted after its pod was missed.
"""

SCHEDULING_CATALOG: tuple[Kind, ...] = (PHGROUPS, INSTANCE_TYPES, IMAGES)
"""The kinds that decide whether a job is feasible (spec.md, Q8). A `CatalogRequest` lists them again."""

KIND_OF: Mapping[type[Fact], Kind] = {
    message: kind for kind in KINDS for message in (kind.observed, kind.deleted)
}
"""The kind that a message is about."""

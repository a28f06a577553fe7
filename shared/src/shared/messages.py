"""The message contract: everything that one service ever says to another.

Facts are told by the watcher, orders are given to the pod-manager, frames hold a stream together.
Only shapes live here: how a message travels is `bus`, what makes a stream whole is `session`.

A message's kind travels beside its body, so a body is just the fields below as JSON. An old body
must always decode: a field is only ever added, and only with a default; one that changes meaning
gets a new name. Unknown fields are ignored, so that an old service understands a newer one.
No message holds a job's command or a dataset's values: secrets stay out of the broker.
"""

from datetime import datetime
from typing import Union, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import PermanentError
from shared.phjob import Phase, PodPhase


class Message(BaseModel):
    """What all messages have in common."""

    model_config = ConfigDict(frozen=True, extra="ignore")


# --- Facts: what the watcher saw. `resource_version` orders the facts about one kind. ---


class Fact(Message):
    """Something that is so in Kubernetes, at a revision."""

    uid: str
    name: str
    resource_version: int


class JobSeen(Fact):
    """A PhJob that still needs something (`status.reclaimed` is not true)."""

    group: str
    user: str
    image: str
    instance_type: str
    group_id: str = ""
    created: datetime
    revision: int
    """resourceVersion at creation: the order of jobs created in one second."""
    generation: int = 0
    """`metadata.generation`: every edit of the spec counts it up."""
    cancel: bool = False
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    requeue_limit: int | None = None
    phase: Phase = Phase.PENDING
    reason: str = ""
    message: str = ""
    fence: str = ""
    requeued: int = 0
    requeue_after: datetime | None = None
    preparing_time: datetime | None = None
    start_time: datetime | None = None
    finish_time: datetime | None = None
    resources: dict[str, int] = {}
    """What was admitted, as `shared.resources.Amounts`."""
    node: str = ""
    log_url: str = ""
    pod: str = ""
    """Its pod's name; empty if there never was one, or none when it ended."""


class JobGone(Fact):
    """A PhJob was deleted, or needs nothing any more."""

    group: str


class PodSeen(Fact):
    """A pod that counts in a group's pool: a job's or a Jupyter server's."""

    group: str
    """The value of the label `primehub.io/group`."""
    user: str
    """The value of the label `primehub.io/user`; empty where there is none."""
    job_uid: str = ""
    """The PhJob that controls the pod; empty for any other pod."""
    fence: str = ""
    attempt: int = 1
    """Which of its job's tries the pod is: one more than the job was requeued before."""
    phase: PodPhase = PodPhase.PENDING
    deleting: bool = False
    deleted_at: datetime | None = None
    """When its deletion was asked for; it may have time to end since."""
    disruption: str = ""
    """Who or what ends it, if Kubernetes says so: drained, preempted, tainted."""
    limits: dict[str, int] = {}
    node: str = ""
    start_time: datetime | None = None
    finish_time: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    message: str = ""

    @property
    def started(self) -> bool:
        """Whether its container ever ran."""
        return self.start_time is not None or self.exit_code is not None


class PodGone(Fact):
    """A pod that counted is no more."""

    group: str
    job_uid: str = ""


class DatasetGrant(Message):
    """A dataset that a group is granted."""

    name: str
    writable: bool = False


class GroupSeen(Fact):
    """A PhGroup. A map's value is the amount; an absent key is unlimited."""

    group: str
    """The group's name as jobs give it: `spec.groupName`, else the object's name."""
    group_id: str = ""
    user_quota: dict[str, int] = {}
    group_quota: dict[str, int] = {}
    users: tuple[str, ...] | None = None
    images: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    default_active_deadline_seconds: int | None = None
    invalid: str = ""
    """What makes it unusable, for the user to read; empty if nothing does."""
    datasets: tuple[DatasetGrant, ...] = ()
    shared_volume: bool = False
    launch_group_only: bool = True
    home_symlink: bool = True


class GroupGone(Fact):
    """A PhGroup was deleted."""

    group: str


class InstanceTypeSeen(Fact):
    """An InstanceType: what a job of it is charged and limited to."""

    limits: dict[str, int] = {}
    invalid: str = ""


class InstanceTypeGone(Fact):
    """An InstanceType was deleted."""


class ImageSeen(Fact):
    """An Image."""

    invalid: str = ""


class ImageGone(Fact):
    """An Image was deleted."""


class DatasetSeen(Fact):
    """A Dataset. What is in it stays in Kubernetes."""


class DatasetGone(Fact):
    """A Dataset was deleted."""


class NodeSeen(Fact):
    """A node of the cluster."""

    lost_since: datetime | None = None
    """Since when its kubelet is silent (condition `Ready` is `Unknown`); None: it is not."""


class NodeGone(Fact):
    """A node left the cluster."""


# --- Orders: what pod-manager shall do. Each names the state that it was decided on. ---


class Order(Message):
    """Something to do for one job, if its `status.fence` still is `fence`."""

    uid: str
    name: str
    group: str
    fence: str


class Admit(Order):
    """Scheduler: Pending to Preparing, then create the pod."""

    token: str
    """The new `status.fence`: the name of this admission."""
    resources: dict[str, int]
    revision: int


class Refuse(Order):
    """Scheduler: Pending to Failed; the job can never run."""

    reason: str
    message: str


class Explain(Order):
    """Scheduler: why a Pending job waits."""

    reason: str
    message: str
    revision: int


class ReportGroup(Message):
    """Scheduler: how a group stands, for the status of its PhGroup."""

    uid: str
    """The PhGroup's."""
    name: str
    group: str
    place: str
    """Orders all reports that were ever given: of several on a group the greatest counts."""
    pending: int = 0
    preparing: int = 0
    running: int = 0
    used: dict[str, int] = {}
    limit: dict[str, int] = {}
    """The group quota."""
    head: str = ""
    """The job that goes next; empty if none waits."""
    message: str = ""
    """Why it does not go yet."""


class Requeue(Order):
    """Janitor: the pod did not start in time; Preparing back to Pending."""

    message: str


class TimeOut(Order):
    """Janitor: Running to Failed, `OverActiveDeadline`."""

    message: str
    generation: int | None = None
    """The spec that it was decided on: an edit made since comes first. None: any."""


class GiveUp(Order):
    """Janitor: the node was unresponsive for too long; to Failed, `NodeLost`."""

    message: str


class Reclaim(Order):
    """Janitor: a finished job's pod has lived its time; delete it."""

    generation: int | None = None
    """As for `TimeOut`."""


class Forget(Order):
    """Janitor: a finished job's record is over the history's limits; delete it, and its pod."""


# --- Frames: what keeps a stream whole. ---


class SnapshotWanted(Message):
    """To the watcher: tell `queue` everything, from a LIST made after this was read."""

    queue: str
    request: str


class SnapshotBegin(Message):
    """The answer starts: what follows was listed at `revisions` (kind to resourceVersion)."""

    request: str
    revisions: dict[str, int]
    place: str = ""
    """Orders all snapshots that were ever told: a later one's compares greater."""


class SnapshotEnd(Message):
    """The answer is complete.

    The watcher tells it to who has asked, and the scheduler tells it to pod-manager in its own session.
    """

    request: str


class CatalogWanted(Message):
    """To the watcher: list groups, images and instance types anew, then tell `queue`."""

    queue: str
    request: int


class CatalogListed(Message):
    """Every fact about the catalog up to `revision` has been told on this stream."""

    request: int
    revision: int


class RecordsWanted(Message):
    """To the watcher: count the records that need nothing any more, and tell `queue` the oldest."""

    queue: str
    request: int
    most: int
    """How many to tell at most."""


class Record(Message):
    """A finished job of which nothing is left but its record."""

    uid: str
    name: str
    group: str
    finish_time: datetime


class RecordsListed(Message):
    """The answer: how many records there are, and the oldest of them, oldest first."""

    request: int
    total: int
    oldest: tuple[Record, ...] = ()


class Fence(Message):
    """To pod-manager: obey `session` alone, once every older write has ended."""

    session: str
    queue: str
    """Where the scheduler of that session reads."""


class FenceWanted(Message):
    """To the scheduler: pod-manager knows no session to obey; open one."""


class Heartbeat(Message):
    """The stream lives; its number shows whether something before it was lost."""

    sent: datetime | None = None
    """When it was sent, by its sender's clock; by the watcher's alone."""
    answering: str = ""
    """The reader's request for a snapshot that is being answered: it may take its time."""


AnyMessage = Union[  # noqa: UP007 - get_args below reads it
    JobSeen, JobGone, PodSeen, PodGone, GroupSeen, GroupGone,
    InstanceTypeSeen, InstanceTypeGone, ImageSeen, ImageGone, DatasetSeen, DatasetGone, NodeSeen, NodeGone,
    Admit, Refuse, Explain, ReportGroup, Requeue, TimeOut, GiveUp, Reclaim, Forget,
    SnapshotWanted, SnapshotBegin, SnapshotEnd, CatalogWanted, CatalogListed, RecordsWanted, RecordsListed,
    Fence, FenceWanted, Heartbeat,
]  # fmt: skip

_BY_KIND: dict[str, type[Message]] = {model.__name__: model for model in get_args(AnyMessage)}


class UndecodableError(PermanentError):
    """The bytes are no message of this contract; the text says why."""


def encode(message: Message) -> tuple[str, bytes]:
    """A message as its kind and its body."""
    return type(message).__name__, message.model_dump_json(exclude_defaults=True).encode()


def decode(kind: str | None, body: bytes) -> Message:
    """The message behind a kind and a body.

    Raises:
        UndecodableError: the kind is unknown, or the body does not fit it.

    """
    model = _BY_KIND.get(kind or "")
    if model is None:
        msg = f"unknown message kind {kind!r}"
        raise UndecodableError(msg)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        msg = f"{kind}: {error.error_count()} fields do not fit: {error.errors()[0]['msg']}"
        raise UndecodableError(msg) from error

"""The message contract: every message that one service sends to another.

The watcher publishes facts, scheduler and janitor send commands, and control messages keep a stream
complete. This module has the shapes only: `phjob_runtime.amqp` transports messages, and `stream` detects
lost ones.

A message's kind travels beside its body, so that a body is the fields below as JSON. An old body must
always decode: a field may be added, with a default, and a field with a new meaning gets a new name.
Unknown fields are ignored, so that an old service understands a newer one.

Secrets must not reach the broker, whose disk and dead letters have other readers than the job. So no message
contains a job's command, a dataset's values, or what a container said at its end: that is usually the end of
its log (spec.md, E7). pod-manager reads it from the pod.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

import msgspec

from phjob_core.api import Notebooks, Phase, PodPhase, Reason
from phjob_core.errors import PermanentError

CONTAINER_STATUS_UNKNOWN = "ContainerStatusUnknown"
"""The kubelet's reason for a container whose end it did not observe."""
DELETED_BY_POD_GC = "DeletionByPodGC"
"""Kubernetes' reason for a pod whose node is gone: the control plane has ended it, not its kubelet."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The base of all messages.

    A struct takes a third of the memory of a pydantic model, and is decoded in an eighth of the time. It is
    never part of a cycle, so the garbage collector need not track it. A constructor checks no types: use
    `model_validate` for values that other programs wrote.
    """

    kind: ClassVar[str] = ""
    """The message's name on the wire."""

    @classmethod
    def model_validate(cls, fields: Mapping[str, Any]) -> Self:
        """Return the message with these fields, after converting them to their types as from JSON.

        Raises:
            ValueError: a field is missing, or does not fit its type.

        """
        return msgspec.convert(fields, cls)

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return the message with the fields of `update` changed."""
        return msgspec.structs.replace(self, **update)


# --- Facts: observed states. `resource_version` orders the facts about one kind. ---


class Fact(Message, frozen=True, kw_only=True):
    """The observed state of a Kubernetes object at a revision."""

    uid: str
    name: str
    resource_version: int


class JobSeen(Fact, frozen=True, kw_only=True):
    """A PhJob that still needs attention (`status.reclaimed` is not true)."""

    kind: ClassVar[str] = "JobSeen"
    group: str
    user: str
    image: str
    instance_type: str
    group_id: str = ""
    created: datetime
    revision: int
    """The resourceVersion at creation, which orders jobs created in the same second."""
    revision_recorded: bool = False
    """True if `status.revision` contains it. Every write changes the resourceVersion."""
    cancel: bool = False
    suspend: bool = False
    """True if its user keeps it from being admitted. It counts only while it is Pending."""
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    requeue_limit: int | None = None
    retry_limit: int = 0
    """The number of times that its user permits to run its command again."""
    retry_on: tuple[str, ...] = ()
    """The causes for which they permit that (`retry.RetryCause`)."""
    phase: Phase = Phase.PENDING
    foreign_phase: str = ""
    """The phase in its status, if that is PrimeHub's `Unknown`. `phase` is what it counts as."""
    reason: str = ""
    message: str = ""
    """Why it waits, while it is Pending; otherwise empty, because it may quote the job's log."""
    fence: str = ""
    requeued: int = 0
    retried: int = 0
    """The number of times that its command was to run again."""
    attempts: int = 0
    """The number of its attempts that the status describes."""
    requeue_after: datetime | None = None
    preparing_time: datetime | None = None
    start_time: datetime | None = None
    finish_time: datetime | None = None
    resources: dict[str, int] = {}
    """The admitted resources, as `phjob_core.quantities.Amounts`."""
    gpu_resource: str = ""
    """The resource among them that `limits.gpu` of its instance type meant; empty if none."""
    overhead: dict[str, int] = {}
    """What the cluster adds to its pod beside `resources`, as far as that is known (spec.md, Q13)."""
    node: str = ""
    log_url: str = ""
    log_failed: bool = False
    """True if its message ends in an error of the log archive."""
    pod: str = ""
    """The name of its pod; empty if it never had one."""
    pod_uid: str = ""
    """The uid of the pod that its admission names; empty before the first admission and after a requeue."""
    deleting: bool = False
    """True if it has a deletionTimestamp; it is never admitted again."""
    generation: int = 0
    """Its `metadata.generation`; 0 from a watcher that does not send it.

    An edit that changes no other field is no new fact, so the generation may be older than the job's.
    """

    @property
    def lacks_revision(self) -> bool:
        """Return whether it was edited before its revision at creation was recorded.

        Only the watcher's current session knows that revision then.
        """
        return not self.revision_recorded and self.resource_version != self.revision

    @property
    def has_pending_reason(self) -> bool:
        """Return whether its status says why it waits: somebody has let it wait instead of rejecting it.

        That may have been PrimeHub's controller, before PhJob took over.
        """
        has_reason = self.reason not in ("", Reason.QUEUED) or self.message != ""
        return self.phase is Phase.PENDING and has_reason


class JobGone(Fact, frozen=True, kw_only=True):
    """A PhJob that was deleted, or that needs no more attention."""

    kind: ClassVar[str] = "JobGone"
    group: str


class PodSeen(Fact, frozen=True, kw_only=True):
    """A pod of a group's pool: a job's or a notebook's."""

    kind: ClassVar[str] = "PodSeen"
    group: str
    """The value of the label `primehub.io/group`."""
    user: str
    """The value of the label `primehub.io/user`; empty where there is none."""
    job_uid: str = ""
    """The PhJob whose pod it is; empty for any other pod."""
    orphaned: bool = False
    """True if nothing controls it, so that Kubernetes does not delete it with its job."""
    fence: str = ""
    attempt: int = 1
    """The number of its job's attempt: one more than the job's requeues and retries before it."""
    phase: PodPhase = PodPhase.PENDING
    gated: bool = False
    """True while it has our scheduling gate, so that it has no node and none of its containers can start."""
    held: bool = False
    """True while our finalizer keeps it until its last state is read (`REQUEUE_FINALIZER`)."""
    deleting: bool = False
    deleted_at: datetime | None = None
    """When its deletion was requested; its grace period began then."""
    disruption: str = ""
    """Why Kubernetes ends it, if it announces that: a drain, a preemption, a taint."""
    exceeded_deadline: int = 0
    """The pod's own deadline in seconds, if the kubelet ended the pod for it; otherwise 0."""
    created: datetime | None = None
    """When it was created; None unless it is gated and no job's."""
    limits: dict[str, int] = {}
    gpu_resource: str = ""
    """Of a job's pod: the resource that `limits.gpu` of its instance type meant; empty if none."""
    node: str = ""
    has_started: bool = False
    """True if its status shows that its container has started (`pod_reading.PodReading.has_started`)."""
    start_time: datetime | None = None
    finish_time: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    """The reason of its state: its node's for the whole pod, otherwise its container's."""
    cause: str = ""
    """Why its node has ended or rejected the whole pod, such as `Evicted`; empty if the node has not."""
    container_reason: str = ""
    """The reason of its container's end, such as `OOMKilled`; empty before the end."""
    init_failure: str = ""
    """Which init container has failed, so that its container cannot start, and how."""
    runs_on: str = ""
    """The other containers that keep it running, although its container `main` has ended."""

    @property
    def started(self) -> bool:
        """Return whether its container ever ran.

        When a pod is deleted or evicted, the kubelet reports an exit code even for a container that it never
        started: 137, `ContainerStatusUnknown`, without a start time (status_manager.go, TerminatePod).
        """
        return (
            self.has_started
            or self.start_time is not None
            or (
                self.exit_code is not None
                and CONTAINER_STATUS_UNKNOWN not in (self.reason, self.container_reason)
            )
        )

    @property
    def over(self) -> bool:
        """Return whether none of its containers runs or can still start.

        Either it has finished, or it was deleted before it had a node, because then it gets none
        (pkg/registry/core/pod/storage, BindingREST).
        """
        return self.phase.finished or (self.deleting and not self.node)

    @property
    def never_started(self) -> bool:
        """Return whether its state proves that its container never ran and never will."""
        if self.node and self.disruption.startswith(DELETED_BY_POD_GC):
            return False  # The kubelet did not report this: the lost node may have started it.
        return self.over and not self.started and self.phase is not PodPhase.SUCCEEDED


class PodGone(Fact, frozen=True, kw_only=True):
    """A pod of the pool that was deleted."""

    kind: ClassVar[str] = "PodGone"
    group: str
    job_uid: str = ""
    never_started: bool = False
    """True if its last state proves that its container never ran; otherwise that is unknown."""


class DatasetGrant(Message, frozen=True, kw_only=True):
    """A group's grant of a dataset."""

    name: str
    writable: bool = False


class GroupSeen(Fact, frozen=True, kw_only=True):
    """A PhGroup. In a quota, an absent key is unlimited."""

    kind: ClassVar[str] = "GroupSeen"
    group: str
    """The group's name as jobs give it: `spec.groupName`, otherwise the object's name."""
    group_id: str = ""
    user_quota: dict[str, int] = {}
    group_quota: dict[str, int] = {}
    users: tuple[str, ...] | None = None
    """The users who may submit; None: every user (`*` in the PhGroup)."""
    images: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    default_active_deadline_seconds: int | None = None
    max_active_deadline_seconds: int = 0
    """The cap of the deadline of its jobs; 0: no cap."""
    max_pending: int | None = None
    """The number of its jobs that may be Pending; 0: any number. None: the setting."""
    max_pending_per_user: int | None = None
    """The same for the jobs of one user in it."""
    preparing_timeout_seconds: int | None = None
    """The time that a pod of its jobs has to start; None: the setting."""
    invalid: str = ""
    """Why it is unusable, for users; empty if it is usable."""
    datasets: tuple[DatasetGrant, ...] = ()
    shared_volume: bool = False
    launch_group_only: bool = True
    home_symlink: bool = True
    created: datetime | None = None
    """When it was created; None from a watcher that does not send it. Of two groups, the older one counts."""
    security_profile: str = ""
    """The security profile of its jobs' pods; empty: the setting's."""


class GroupGone(Fact, frozen=True, kw_only=True):
    """A PhGroup that was deleted."""

    kind: ClassVar[str] = "GroupGone"
    group: str


class InstanceTypeSeen(Fact, frozen=True, kw_only=True):
    """An InstanceType: the limits and the charge of a job that uses it."""

    kind: ClassVar[str] = "InstanceTypeSeen"
    limits: dict[str, int] = {}
    gpu_resource: str = ""
    """The resource that its `limits.gpu` means, which counts as `gpu`; empty if it has no `limits.gpu`."""
    invalid: str = ""


class InstanceTypeGone(Fact, frozen=True, kw_only=True):
    """An InstanceType that was deleted."""

    kind: ClassVar[str] = "InstanceTypeGone"


class ImageSeen(Fact, frozen=True, kw_only=True):
    """An Image."""

    kind: ClassVar[str] = "ImageSeen"
    invalid: str = ""


class ImageGone(Fact, frozen=True, kw_only=True):
    """An Image that was deleted."""

    kind: ClassVar[str] = "ImageGone"


class DatasetSeen(Fact, frozen=True, kw_only=True):
    """A Dataset. Its content stays in Kubernetes."""

    kind: ClassVar[str] = "DatasetSeen"


class DatasetGone(Fact, frozen=True, kw_only=True):
    """A Dataset that was deleted."""

    kind: ClassVar[str] = "DatasetGone"


class NodeSeen(Fact, frozen=True, kw_only=True):
    """A node of the cluster."""

    kind: ClassVar[str] = "NodeSeen"
    lost_since: datetime | None = None
    """Since when its kubelet has been silent (condition `Ready` is `Unknown`); None if it is not."""


class NodeGone(Fact, frozen=True, kw_only=True):
    """A node that was deleted."""

    kind: ClassVar[str] = "NodeGone"


# --- Commands: what pod-manager has to do. Each names the state that it was decided on. ---


class Command(Message, frozen=True, kw_only=True):
    """A command about one job or one gated pod, valid while its fence is `fence`."""

    uid: str
    name: str
    group: str
    fence: str


class Admit(Command, frozen=True, kw_only=True):
    """From the scheduler: create the pod, write Pending to Preparing, and let the pod start."""

    kind: ClassVar[str] = "Admit"
    token: str
    """The admission token: the new `status.fence`."""
    resources: dict[str, int]
    revision: int
    gpu_resource: str = ""
    """As in `JobSeen`."""
    overhead: dict[str, int] = {}
    """What is reserved beside `resources`, for what the cluster adds to the pod (spec.md, Q13)."""


class Reject(Command, frozen=True, kw_only=True):
    """From the scheduler: write Pending to Failed, because the job can never run."""

    kind: ClassVar[str] = "Reject"
    reason: str
    message: str


class SetPendingReason(Command, frozen=True, kw_only=True):
    """From the scheduler: write why a Pending job waits."""

    kind: ClassVar[str] = "SetPendingReason"
    reason: str
    message: str
    revision: int
    created: datetime | None = None
    """When the job was created; None from a scheduler that does not send it."""
    generation: int = 0
    """The job's generation when that was decided; 0 if it is unknown."""


class AdmitPod(Command, frozen=True, kw_only=True):
    """From the scheduler: remove the gate of a pod of the pool that is no job's.

    `uid`, `name` and `fence` are the pod's.
    """

    kind: ClassVar[str] = "AdmitPod"
    token: str
    """The admission token, which becomes the pod's fence."""


class ExplainPod(Command, frozen=True, kw_only=True):
    """From the scheduler: write an Event that says why such a pod waits."""

    kind: ClassVar[str] = "ExplainPod"
    reason: str
    message: str


class ReportGroupStatus(Message, frozen=True, kw_only=True):
    """From the scheduler: write the status of a PhGroup."""

    kind: ClassVar[str] = "ReportGroupStatus"
    uid: str
    """The PhGroup's uid."""
    name: str
    group: str
    place: str
    """Orders all of these commands: for one group the greatest counts."""
    pending: int = 0
    preparing: int = 0
    running: int = 0
    used: dict[str, int] = {}
    limit: dict[str, int] = {}
    """The group quota."""
    default_limits: dict[str, int] = {}
    """The limits of a job for resources that its instance type does not name."""
    gpu_resource_names: tuple[str, ...] = ()
    """The patterns of `jobSubmission.gpuResourceNames`."""
    head: str = ""
    """The head of the group's queue; empty if nothing waits."""
    waiting_pods: int = 0
    """The number of gated pods that wait, such as notebooks."""
    notebooks: Notebooks | Literal[""] = ""
    """The setting `jobSubmission.notebooks`; empty from a scheduler that does not send it."""
    message: str = ""
    """Why the head waits."""


class Requeue(Command, frozen=True, kw_only=True):
    """From the janitor: write Preparing back to Pending, because the pod did not start in time."""

    kind: ClassVar[str] = "Requeue"
    message: str
    spares_pulling: bool = False
    """True if a pod whose image is still being pulled gets more time; the command is repeated then."""
    message_if_pulling: str = ""
    """The message, in place of `message`, if the image is still being pulled."""


class TimeOut(Command, frozen=True, kw_only=True):
    """From the janitor: write Running to Failed, `OverActiveDeadline`."""

    kind: ClassVar[str] = "TimeOut"
    message: str
    decided_on: dict[str, int | None] = {}
    """The fields of the job's spec that it was decided on, with their values. None: the field is absent.

    A later edit of one of them makes the command invalid.
    """


class FailNodeLost(Command, frozen=True, kw_only=True):
    """From the janitor: write Failed, `NodeLost`, because the node was unresponsive for too long."""

    kind: ClassVar[str] = "FailNodeLost"
    message: str


class Reclaim(Command, frozen=True, kw_only=True):
    """From the janitor: delete a finished job's pod, because its TTL is over."""

    kind: ClassVar[str] = "Reclaim"
    message: str = ""
    """What to add to the job's message; empty: nothing."""
    decided_on: dict[str, int | None] = {}
    """As in `TimeOut`."""


class DeleteJob(Command, frozen=True, kw_only=True):
    """From the janitor: delete a finished job and its pod, because the history is full."""

    kind: ClassVar[str] = "DeleteJob"


# --- Control messages: they keep a stream complete. ---


class SnapshotRequest(Message, frozen=True, kw_only=True):
    """To the watcher: send `queue` a snapshot, from a LIST made after this is read."""

    kind: ClassVar[str] = "SnapshotRequest"
    queue: str
    request: str


class SnapshotBegin(Message, frozen=True, kw_only=True):
    """The start of a snapshot, listed at `revisions` (plural to resourceVersion)."""

    kind: ClassVar[str] = "SnapshotBegin"
    request: str
    revisions: dict[str, int]
    place: str = ""
    """Orders all snapshots: that of a later one compares greater."""
    shards: int = 0
    """The number of shards that the watcher publishes to; 0 from a watcher before release 0.1."""


class SnapshotEnd(Message, frozen=True, kw_only=True):
    """The end of a snapshot.

    The watcher sends it to the requester. The scheduler sends it on to pod-manager, in its own session.
    """

    kind: ClassVar[str] = "SnapshotEnd"
    request: str


class CatalogRequest(Message, frozen=True, kw_only=True):
    """To the watcher: list the catalog again, publish what changed, then answer `queue`."""

    kind: ClassVar[str] = "CatalogRequest"
    queue: str
    request: int


class CatalogSynced(Message, frozen=True, kw_only=True):
    """To a requester: every fact about the catalog up to `revision` was published on this stream."""

    kind: ClassVar[str] = "CatalogSynced"
    request: int
    revision: int


class HistoryLimits(Message, frozen=True, kw_only=True):
    """The limits of the history of every group. None and 0: no limit."""

    finished_before: datetime | None = None
    """A job that finished earlier is over its time."""
    count: int = 0
    """The number of finished jobs that a group keeps, the newest."""
    never_ran_before: datetime | None = None
    """As `finished_before`, of the jobs that were never admitted."""
    never_ran_count: int = 0
    """As `count`, of the jobs that were never admitted."""


class HistoryRequest(Message, frozen=True, kw_only=True):
    """To the watcher: read the history, and send `queue` the oldest jobs that are over a limit."""

    kind: ClassVar[str] = "HistoryRequest"
    queue: str
    request: int
    most: int
    """The largest number to send."""
    limits: HistoryLimits | None = None
    """None from a janitor before release 0.1, which gets no jobs."""


class FinishedJob(Message, frozen=True, kw_only=True):
    """A finished job: a part of the history."""

    uid: str
    name: str
    group: str
    finish_time: datetime
    fence: str = ""


class HistoryPage(Message, frozen=True, kw_only=True):
    """The finished jobs that are over a limit of the history."""

    kind: ClassVar[str] = "HistoryPage"
    request: int
    total: int
    """The number of reclaimed jobs."""
    oldest: tuple[FinishedJob, ...] = ()
    """The oldest reclaimed jobs, from a watcher before release 0.1."""
    over_limit: tuple[FinishedJob, ...] = ()
    """The oldest jobs over a limit, oldest first."""


class Fence(Message, frozen=True, kw_only=True):
    """To pod-manager: once every older write has ended, accept commands of `session` only."""

    kind: ClassVar[str] = "Fence"
    session: str
    queue: str
    """The queue of that session's scheduler."""


class SessionRequest(Message, frozen=True, kw_only=True):
    """To the scheduler: start a new session, because pod-manager has none."""

    kind: ClassVar[str] = "SessionRequest"


class Heartbeat(Message, frozen=True, kw_only=True):
    """A keep-alive; its sequence number reveals lost messages."""

    kind: ClassVar[str] = "Heartbeat"
    sent: datetime | None = None
    """When the watcher sent it; None from other senders."""
    answering: str = ""
    """The reader's request for a snapshot that is in progress; the reader keeps waiting for it."""
    told: dict[str, int] = {}
    """By plural, the revision up to which every fact was published before this. Pods only."""


MESSAGES: tuple[type[Message], ...] = (
    JobSeen, JobGone, PodSeen, PodGone, GroupSeen, GroupGone,
    InstanceTypeSeen, InstanceTypeGone, ImageSeen, ImageGone, DatasetSeen, DatasetGone, NodeSeen, NodeGone,
    Admit, Reject, SetPendingReason, ReportGroupStatus, Requeue, TimeOut, FailNodeLost, Reclaim, DeleteJob,
    AdmitPod, ExplainPod,
    SnapshotRequest, SnapshotBegin, SnapshotEnd, CatalogRequest, CatalogSynced, HistoryRequest, HistoryPage,
    Fence, SessionRequest, Heartbeat,
)  # fmt: skip
"""All messages."""

_ENCODER = msgspec.json.Encoder()
_DECODERS = {message.kind: msgspec.json.Decoder(message) for message in MESSAGES}


class UndecodableError(PermanentError):
    """The bytes are not a message of this contract. The text states the problem."""


def encode(message: Message) -> tuple[str, bytes]:
    """Return a message's kind and body."""
    return message.kind, _ENCODER.encode(message)


def decode(kind: str | None, body: bytes) -> Message:
    """Return the message with this kind and body.

    Raises:
        UndecodableError: the kind is unknown, or the body does not fit it.

    """
    decoder = _DECODERS.get(kind or "")
    if decoder is None:
        msg = f"unknown message kind {kind!r}"
        raise UndecodableError(msg)
    try:
        return decoder.decode(body)
    except ValueError as error:
        msg = f"{kind}: {error}"
        raise UndecodableError(msg) from error

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from tests.fakes.clock import ManualClock
from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later
from tests.fakes.held import collections
from tests.fakes.many_facts import finished_job, finished_pod, measured_memory, pending_job

from phjob_core.api import Phase, PodPhase
from phjob_core.kinds import KINDS
from phjob_core.labels import label_value
from phjob_core.messages import (
    Admit,
    CatalogRequest,
    CatalogSynced,
    Fact,
    Fence,
    GroupGone,
    Heartbeat,
    ImageGone,
    InstanceTypeGone,
    JobGone,
    JobSeen,
    Message,
    PodGone,
    Reject,
    ReportGroupStatus,
    SessionRequest,
    SnapshotBegin,
    SnapshotEnd,
)
from phjob_core.stream import Envelope
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.topology import Shard
from phjob_runtime.settings import JobSubmission
from phjob_scheduler.handler import CATALOG_REQUEST_TIMEOUT, SchedulerHandler

GROUP = a_group(group_quota={"gpu": 1}, user_quota={})
CATALOG = (GROUP, an_image(), an_instance_type("gpu-1", 1))
REVISION = 10**6
"""The revision of the snapshot, which is newer than every fact of it."""
DEFAULT_LIMITS = {"ephemeral-storage": 10 * 2**30}
"""The limits of a job for resources that its instance type does not name."""


class Scheduler:
    """The scheduler's handler, with a clock that the test sets, and the messages that it sends."""

    def __init__(self, shard: Shard | None = None, settings: JobSubmission | None = None) -> None:
        self.clock = ManualClock()
        settings = settings or JobSubmission()
        self.sent: list[tuple[str, str, Message]] = []
        """The session, the queue and the message of each."""
        self.session_requests: list[str] = []
        self.acknowledged = 0
        self.handler = SchedulerHandler(
            shard or Shard(0, 1), self.clock, self._send, self.session_requests.append, settings
        )

    def _send(self, queue: str, envelope: Envelope) -> None:
        assert envelope.message
        self.sent.append((envelope.session, queue, envelope.message))

    def _acknowledge(self, failure: str = "") -> None:
        assert not failure
        self.acknowledged += 1

    def begin(self, session: str = "s", *, revision: int = REVISION) -> None:
        """Begin a session and its snapshot."""
        self.handler.request_snapshot(session)
        revisions = dict.fromkeys((kind.plural for kind in KINDS), revision)
        self.handler.on_snapshot_begin(SnapshotBegin(request=session, revisions=revisions, place="1"))

    def start(self, *facts: Fact, session: str = "s", revision: int = REVISION) -> None:
        """Begin a session, and receive a snapshot with these facts."""
        self.begin(session, revision=revision)
        for fact in facts:
            self.handler.on_fact(fact, from_snapshot=True)
        self.handler.on_snapshot_end()

    def observe(self, message: Message) -> list[Message]:
        """Receive a message after the snapshot. Returns the messages that follow."""
        before = len(self.sent)
        self.handler.on_fact(message, from_snapshot=False)
        return [sent for _, _, sent in self.sent[before:]]

    def wake(self, time: datetime) -> list[Message]:
        """Let time pass, and call the handler if it is due. Returns the messages that follow."""
        before, self.clock.time = len(self.sent), time
        due = self.handler.next_wakeup()
        if due and due <= time:
            self.handler.on_wakeup()
        return [sent for _, _, sent in self.sent[before:]]

    def receive(self, message: Message) -> None:
        """Receive a message of pod-manager."""
        self.handler.on_command(Envelope("pod-manager", "p", 0, message), self._acknowledge)


def newer(fact: Any, **changes: Any) -> Any:
    """Return the fact after a change that followed the snapshot."""
    return fact.model_copy(update={"resource_version": REVISION + 1, **changes})


def gone(kind: type[Any], fact: Any, **fields: Any) -> Any:
    """Return the fact of an object's deletion after the snapshot."""
    return kind(uid=fact.uid, name=fact.name, resource_version=REVISION + 2, **fields)


def admitted(messages: Iterable[Message]) -> list[str]:
    """Return the names of the jobs that the messages admit."""
    return [message.name for message in messages if isinstance(message, Admit)]


def sample(name: str, labels: dict[str, str] | None = None) -> float:
    """Return the value of a metric; 0 if it has none yet."""
    return REGISTRY.get_sample_value(name, labels or {}) or 0.0


def test_a_job_is_admitted_with_the_default_limits_of_the_settings() -> None:
    """The pod gets exactly what the admission reserves (spec.md, P4)."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG, a_job())
    (admit,) = (message for _, _, message in scheduler.sent if isinstance(message, Admit))
    assert admit.resources == {"cpu": 1000, "nvidia.com/gpu": 1, **DEFAULT_LIMITS}


def test_a_session_starts_with_a_fence() -> None:
    """pod-manager then requests the snapshot for it, after all earlier writes have ended."""
    scheduler = Scheduler(Shard(2, 3))
    scheduler.handler.request_snapshot("s")
    assert scheduler.sent == [("s", "pod-manager.2", Fence(session="s", queue="scheduler.2"))]


def test_no_command_comes_before_the_end_of_the_snapshot() -> None:
    """Without that, a job could be admitted into room that another one has."""
    scheduler = Scheduler()
    scheduler.begin()
    for fact in (*CATALOG, a_job("first"), a_job("second")):
        scheduler.handler.on_fact(fact, from_snapshot=True)
    assert admitted(message for _, _, message in scheduler.sent) == []
    scheduler.handler.on_snapshot_end()
    messages = [message for _, _, message in scheduler.sent]
    assert admitted(messages) == ["first"]
    assert messages[1] == SnapshotEnd(request="s")


def test_a_new_session_forgets_the_old_one() -> None:
    """Its snapshot contains what the old one has done."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG, a_job("first"))
    scheduler.start(*CATALOG, a_job("second"), session="t")
    assert admitted(message for _, _, message in scheduler.sent) == ["first", "second"]
    assert scheduler.sent[-1][0] == "t"


def test_an_older_fact_has_no_effect() -> None:
    """A watch repeats what the snapshot contains."""
    scheduler = Scheduler()
    job = a_job()
    scheduler.start(*CATALOG, job)
    assert scheduler.observe(job) == []
    assert scheduler.observe(a_job("old", resource_version=5)) == []


def test_room_is_free_when_a_pod_has_ended_and_when_it_is_gone() -> None:
    """A finished pod is not tracked any further, but its deletion still has to be applied."""
    for phase in (PodPhase.SUCCEEDED, None):
        scheduler = Scheduler()
        holder = a_job("holder", phase=Phase.RUNNING, fence="r#1", resources={"nvidia.com/gpu": 1})
        pod = a_pod(holder, phase=PodPhase.RUNNING)
        holder = later(holder, pod_uid=pod.uid)
        scheduler.start(*CATALOG, holder, pod, a_job("waiting"))
        assert admitted(message for _, _, message in scheduler.sent) == []
        end = newer(pod, phase=phase) if phase else gone(PodGone, pod, group=pod.group, job_uid=pod.job_uid)
        assert admitted(scheduler.observe(end)) == ["waiting"]


def test_a_deleted_job_leaves_the_queue() -> None:
    """The next one takes its turn."""
    scheduler = Scheduler()
    job = a_job()
    scheduler.start(GROUP, an_image(), job)
    scheduler.observe(gone(JobGone, job, group=job.group))
    assert admitted(scheduler.observe(newer(CATALOG[2]))) == []


@pytest.mark.parametrize("index", range(3), ids=["group", "image", "instance type"])
def test_a_change_of_the_catalog_decides_again(index: int) -> None:
    """A job that waits for an object is admitted as soon as the object exists."""
    scheduler = Scheduler()
    missing = CATALOG[index]
    # The job is older than its start in this session, so it waits instead of being rejected.
    job = a_job(created=at(-3600))
    scheduler.start(*(fact for fact in CATALOG if fact is not missing), job)
    assert admitted(message for _, _, message in scheduler.sent) == []
    assert admitted(scheduler.observe(newer(missing))) == ["job-1"]


@pytest.mark.parametrize(
    ("index", "kind", "fields"),
    [(0, GroupGone, {"group": "phusers"}), (1, ImageGone, {}), (2, InstanceTypeGone, {})],
)
def test_a_new_job_is_rejected_after_the_deletion_of_what_it_needs(
    index: int, kind: type[Fact], fields: dict[str, str]
) -> None:
    """It can never run (spec.md, Q4)."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG)
    scheduler.observe(gone(kind, CATALOG[index], **fields))
    messages = scheduler.observe(a_job(resource_version=REVISION + 3, revision=5))
    assert [type(message) for message in messages] == [Reject]


def test_a_job_newer_than_the_catalog_waits_for_it() -> None:
    """The group may have been created just before it (spec.md, Q8)."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG[1:])
    job = a_job(revision=REVISION + 5, resource_version=REVISION + 5)
    request = CatalogRequest(queue="scheduler.0", request=1)
    assert scheduler.observe(job) == [request]
    assert scheduler.observe(newer(GROUP)) != [request], "the first request is outstanding"
    assert scheduler.observe(CatalogSynced(request=1, revision=REVISION + 6)) == []


def test_an_unanswered_request_for_the_catalog_is_repeated() -> None:
    """The watcher may have been replaced."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG[1:])
    scheduler.observe(a_job(revision=REVISION + 5, resource_version=REVISION + 5))
    messages = scheduler.wake(START + CATALOG_REQUEST_TIMEOUT)
    assert CatalogRequest(queue="scheduler.0", request=2) in messages


def test_an_admission_that_is_not_observed_ends_the_session() -> None:
    """Its command may be lost. A new session starts from what has happened."""
    scheduler = Scheduler()
    before = sample("phjob_scheduler_admissions_unobserved_total")
    scheduler.start(*CATALOG, a_job())
    assert scheduler.session_requests == []
    scheduler.wake(at(61))
    assert scheduler.session_requests == ["admission unobserved"]
    assert sample("phjob_scheduler_admissions_unobserved_total") == before + 1


def test_pod_manager_may_request_a_session() -> None:
    """It has lost a command, or has been replaced."""
    scheduler = Scheduler()
    scheduler.receive(SessionRequest())
    assert scheduler.session_requests == ["session requested"]
    assert scheduler.acknowledged == 1


def test_a_heartbeat_may_prove_that_a_deleted_jobs_pod_never_existed() -> None:
    """Until then the pod may still appear, and its resources count."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG)
    holder = a_job("holder", phase=Phase.PREPARING, fence="r#1", pod_uid="p", resources={"nvidia.com/gpu": 1})
    scheduler.observe(newer(holder))
    assert admitted(scheduler.observe(newer(a_job("waiting")))) == []
    assert admitted(scheduler.observe(gone(JobGone, holder, group=holder.group))) == []
    assert admitted(scheduler.observe(Heartbeat(told={"pods": REVISION + 10}))) == ["waiting"]


def test_reports_have_a_stream_of_their_own_and_concern_this_shards_groups_only() -> None:
    """A report that an older pod-manager cannot decode is no gap in the commands."""
    groups = [a_group(f"group-{number}") for number in range(20)]
    shard = Shard(1, 2)
    scheduler = Scheduler(shard)
    scheduler.start(*groups)
    reports = [message for message in scheduler.wake(at(2)) if isinstance(message, ReportGroupStatus)]
    expected = {
        group.name for group in groups if topology.shard_of(label_value(group.group), 2) == shard.index
    }
    assert {report.name for report in reports} == expected
    assert {session for session, _, message in scheduler.sent if isinstance(message, ReportGroupStatus)} == {
        "s/reports"
    }


def test_only_jobs_that_are_new_after_the_snapshot_count_as_submitted() -> None:
    """A restart does not count the old ones again."""
    group = {"group": "counted"}
    scheduler = Scheduler()
    scheduler.start(*CATALOG, a_group("counted"), a_job("old", group="counted"))
    new = a_job("new", group="counted", resource_version=REVISION + 1)
    assert sample("phjob_submitted_total", group) == 0
    scheduler.observe(new)
    scheduler.observe(new.model_copy(update={"resource_version": REVISION + 2}))
    assert sample("phjob_submitted_total", group) == 1


def test_the_series_of_a_group_begin_and_end_with_its_object() -> None:
    """Afterwards its jobs count as those of an unknown group (spec.md, E3)."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG)
    unknown = sample("phjob_submitted_total", {"group": "unknown"})
    group = newer(a_group("short-lived"))
    scheduler.observe(group)
    scheduler.observe(a_job("one", group="short-lived", resource_version=REVISION + 1))
    assert sample("phjob_submitted_total", {"group": "short-lived"}) == 1
    scheduler.observe(gone(GroupGone, group, group=group.group))
    assert REGISTRY.get_sample_value("phjob_submitted_total", {"group": "short-lived"}) is None
    scheduler.observe(a_job("two", group="short-lived", resource_version=REVISION + 3))
    assert sample("phjob_submitted_total", {"group": "unknown"}) == unknown + 1


def test_nothing_remains_of_invented_groups() -> None:
    """Neither in the handler, nor in the metrics, nor in the reports (spec.md, E3)."""
    scheduler = Scheduler()
    scheduler.start(*CATALOG)
    scheduler.wake(at(10))
    before = collections(scheduler.handler, without=("_tombstones",))
    submitted = sample("phjob_submitted_total", {"group": "unknown"})
    for number in range(10_000):
        job = newer(a_job(f"job-{number}", group=f"invented-{number}"))
        scheduler.observe(job)
        scheduler.observe(newer(job, resource_version=REVISION + 2, phase=Phase.FAILED))
        assert scheduler.handler.next_wakeup() is None
        scheduler.observe(gone(JobGone, job, group=job.group))
    assert collections(scheduler.handler, without=("_tombstones",)) == before
    assert sample("phjob_submitted_total", {"group": "unknown"}) == submitted + 10_000
    assert "invented-" not in generate_latest().decode()


def test_the_deletion_of_a_finished_job_has_no_effect() -> None:
    """It is not tracked any longer."""
    scheduler = Scheduler()
    job: JobSeen = a_job()
    scheduler.start(*CATALOG, job)
    scheduler.observe(newer(job, phase=Phase.SUCCEEDED))
    assert scheduler.observe(gone(JobGone, job, group=job.group)) == []


def test_a_waiting_job_takes_little_memory_and_a_finished_one_almost_none() -> None:
    """One user may have 10,000 waiting jobs, and all of them together 100,000."""
    scheduler, count = Scheduler(), 500
    scheduler.start(*CATALOG)
    with measured_memory() as measured:
        for number in range(count):
            scheduler.handler.on_fact(pending_job(number), from_snapshot=False)
    assert len(scheduler.handler.debug_state()["jobs"]) == count
    assert measured[0] < count * 1500
    scheduler = Scheduler()
    scheduler.begin()
    with measured_memory() as measured:
        for number in range(count):
            job = finished_job(number)
            scheduler.handler.on_fact(job, from_snapshot=True)
            scheduler.handler.on_fact(finished_pod(job), from_snapshot=True)
        scheduler.handler.on_snapshot_end()
    assert measured[0] < count * 800


def test_the_limits_and_the_reserved_names_are_those_of_the_settings() -> None:
    """A new session has them, too (spec.md, Q4, Q11)."""
    scheduler = Scheduler(settings=JobSubmission(maxPendingPerUser=1, maxPending=2, reservedNames=["db-*"]))
    users = {"runs": "bob", "db-0": "bob", "waits": "bob", "second": "bob", "third": "lin", "fourth": "ann"}
    for session in ("s", "t"):
        scheduler.start(*CATALOG, session=session)
        sent = [
            message
            for number, (name, user) in enumerate(users.items(), start=1)
            for message in scheduler.observe(
                a_job(name, user=user, revision=REVISION, resource_version=REVISION + number)
            )
        ]
        assert [(type(one), one.name) for one in sent if isinstance(one, Admit | Reject)] == [
            (Admit, "runs"), (Reject, "db-0"), (Reject, "second"), (Reject, "fourth"),
        ]  # fmt: skip
        reasons = [one.reason for one in sent if isinstance(one, Reject)]
        assert reasons == ["InvalidSpec", "TooManyPending", "TooManyPending"]

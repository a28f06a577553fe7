"""One group as it is now, made of what the API server lists: who waits, in which order, who holds what.

Pure. The facts go through the scheduler's own `Admission`, so its queue stands here as it stands there,
and what it would order next is known: who goes, and who is refused.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kubectl_phjob import words
from kubectl_phjob.forecast import Entry, Estimate, Holder, RunTimes, Situation, forecast
from scheduler.admission import Admission, place
from scheduler.catalog import Refusal
from scheduler.queue import GroupQueue, Waiting
from shared.labels import label_value
from shared.messages import Admit, GroupSeen, ImageSeen, InstanceTypeSeen, JobSeen, PodSeen, Refuse
from shared.phjob import Phase
from shared.resources import Amounts, charge

LATELY = 500
"""Jobs whose times tell how long the next ones may run: those that ended last."""

_COMPLETE = 2**63
"""A revision newer than any: what was listed is all there is."""


@dataclass(frozen=True)
class Facts:
    """What the API server lists about one group."""

    name: str
    """The group's name, as its jobs give it."""
    group: GroupSeen | None
    """None: there is no such group."""
    jobs: Sequence[JobSeen]
    pods: Sequence[PodSeen]
    groups: Sequence[GroupSeen] = ()
    instance_types: Sequence[InstanceTypeSeen] = ()
    images: Sequence[ImageSeen] = ()
    sees_pods: bool = True
    """Whether the user may list pods; else notebooks are not known."""


@dataclass(frozen=True)
class Held:
    """A job or a notebook that holds a part of the quota."""

    uid: str
    name: str
    user: str
    amounts: Amounts
    since: datetime
    latest: datetime | None
    """When its deadline ends it, as far as that is known."""
    notebook: bool


@dataclass
class Look:
    """The group, ready to be asked."""

    facts: Facts
    now: datetime
    admission: Admission = field(init=False)
    going: set[str] = field(default_factory=set)
    """The uids of jobs that may go now: the scheduler is about to admit them."""
    refused: dict[str, Refuse] = field(default_factory=dict)
    """Jobs that can never run, by uid: the scheduler is about to refuse them."""

    def __post_init__(self) -> None:
        self.admission = mind = Admission("look")
        mind.catalog_listed(_COMPLETE, self.now)
        for kind in self.facts.instance_types:
            mind.catalog.instance_types[kind.name] = kind
        for image in self.facts.images:
            mind.catalog.images[image.name] = image
        for group in self.facts.groups:
            mind.group_seen(group, self.now)
        for job in self.facts.jobs:
            if not job.phase.final:
                mind.job_seen(job, self.now)
        for pod in self.facts.pods:
            mind.pod_seen(pod, self.now)
        for order in mind.start(self.now):
            if isinstance(order, Admit):
                self.going.add(order.uid)
            elif isinstance(order, Refuse):
                self.refused[order.uid] = order
        self.queue = mind.groups.get(label_value(self.facts.name)) or GroupQueue()
        self._users = {label_value(job.user): job.user for job in self.facts.jobs}
        members = self.facts.group.users if self.facts.group else ()
        self._users |= {label_value(name): name for name in members or ()}
        self.line = sorted(self._line(), key=place)
        """The jobs that wait, in their order; those in backoff keep their place."""
        self._places = {job.uid: number for number, job in enumerate(self.line, start=1)}

    def _line(self) -> Iterator[JobSeen]:
        for job in self.admission.jobs.values():
            if job.seen.phase is Phase.PENDING and not job.seen.cancel and job.seen.uid not in self.refused:
                yield job.seen

    def place(self, job: JobSeen) -> int | None:
        """The job's place among those that wait, from 1; None if it does not."""
        return self._places.get(job.uid)

    def before(self, job: JobSeen) -> list[JobSeen]:
        """Those that wait before it and are in the queue, first first."""
        return [other for other in self.line[: self._places[job.uid] - 1] if other.uid in self.queue.jobs]

    def job(self, uid: str) -> JobSeen:
        """A job that is not finished."""
        return self.admission.jobs[uid].seen

    def request(self, job: JobSeen) -> Amounts:
        """What the job asks for, or holds; nothing if it can't run."""
        if job.resources and job.phase.admitted:
            return charge(job.resources)
        verdict = self.admission.catalog.check(job)
        return {} if isinstance(verdict, Refusal) else charge(verdict)

    def needs(self, job: JobSeen) -> str:
        """What of that is limited by a quota, in words; all of it if nothing is."""
        request = self.request(job)
        limited = {*self.queue.user_quota, *self.queue.group_quota} & {*request}
        return words.amounts(request, limited)

    def waits_for(self, job: JobSeen) -> str:
        """In a few words: what a job of the line itself waits for, or for whom."""
        if rest := self.rests(job):
            return f"backoff until {rest:%H:%M:%S} UTC"
        if job.uid in self.going:
            return "nothing: it goes now"
        _, numbers = self.queue.why(job.uid)
        return numbers or "those before it"

    def rests(self, job: JobSeen) -> datetime | None:
        """When the backoff of a job that waits is over, if it is not."""
        return job.requeue_after if job.requeue_after and job.requeue_after > self.now else None

    def deadline(self, job: JobSeen) -> timedelta | None:
        """How long it may run, by itself or its group; the services' default is not known here."""
        seconds = job.active_deadline_seconds
        if seconds is None and self.facts.group:
            seconds = self.facts.group.default_active_deadline_seconds
        return timedelta(seconds=seconds) if seconds else None

    def user(self, label: str) -> str:
        """A user's name, by the label value that a pod carries."""
        return self._users.get(label, label.removeprefix("escaped-"))

    def held(self) -> list[Held]:
        """Everything that holds a part of the quota, longest first."""
        pods = {pod.uid: pod for pod in self.facts.pods}
        found = []
        for holder, amounts in self.queue.ledger.holders():
            label, _ = self.queue.ledger.held(holder) or ("", {})
            pod = pods.get(holder)
            entry = self.admission.jobs.get(self.admission.job_of_pod.get(holder, holder))
            if entry:
                job = entry.seen
                since = job.preparing_time or (pod and pod.start_time) or self.now
                found.append(
                    Held(holder, job.name, job.user, amounts, since, self._latest(job), notebook=False)
                )
            else:
                since = (pod and pod.start_time) or self.now
                name = pod.name if pod else holder
                orphan = bool(pod and pod.job_uid)
                found.append(Held(holder, name, self.user(label), amounts, since, None, notebook=not orphan))
        return sorted(found, key=lambda held: (held.since, held.name))

    def estimates(self, uids: Collection[str]) -> Mapping[str, Estimate]:
        """When these jobs, which wait, will be admitted."""
        going = {uid: Estimate(self.now, self.now) for uid in uids if uid in self.going}
        wanted = [uid for uid in uids if uid in self._places and uid not in going]
        return {**forecast(self._situation(), wanted), **going} if wanted else going

    def _latest(self, job: JobSeen) -> datetime | None:
        longest = self.deadline(job)
        return (job.start_time or self.now) + longest if longest else None

    def _situation(self) -> Situation:
        """For the forecast, in which only what a quota limits decides."""
        limited = {*self.queue.user_quota, *self.queue.group_quota}

        def counted(amounts: Amounts) -> Amounts:
            return {name: amount for name, amount in amounts.items() if name in limited}

        holders = [
            Holder(
                held.uid, (self.queue.ledger.held(held.uid) or ("", {}))[0], counted(held.amounts),
                held.since, held.latest, not held.notebook,
            )
            for held in self.held()
        ]  # fmt: skip

        def waiting(job: JobSeen) -> Waiting:
            known = self.queue.jobs.get(job.uid)
            user = known.user if known else label_value(job.user)
            request = known.request if known else self.request(job)
            # The places of the line, in a form that is quick to compare.
            return Waiting(job.uid, user, counted(request), (self.now, self._places[job.uid], ""))

        entries = [
            Entry(waiting(job), self.rests(job), self.deadline(job))
            for job in self.line
            if job.uid not in self.going
        ]
        return Situation(
            self.now,
            self.queue.user_quota,
            self.queue.group_quota,
            holders,
            [entry for entry in entries if not self.queue.impossible(entry.waiting.request)],
            run_times(self.facts.jobs),
        )


def run_times(jobs: Sequence[JobSeen]) -> RunTimes:
    """How long the jobs that ended last have held their part of the quota."""
    ended = [
        (job.finish_time, job.finish_time - job.preparing_time)
        for job in jobs
        if job.phase in (Phase.SUCCEEDED, Phase.FAILED) and job.start_time
        if job.finish_time and job.preparing_time
    ]
    return RunTimes(time for _, time in sorted(ended)[-LATELY:])

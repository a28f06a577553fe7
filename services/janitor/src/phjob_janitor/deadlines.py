"""The next deadline of a job, and the command that is due then (spec.md, Q5, L8, L10, L12). Pure.

A job has at most one next deadline. Its inputs are the job's phase and times, its group, its node, and the
settings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from phjob_core.api import Phase, Reason
from phjob_core.messages import Command, FailNodeLost, GroupSeen, JobSeen, Reclaim, Requeue, TimeOut
from phjob_runtime.settings import JobSubmission

_GROUP_CAP = "its group (maxActiveDeadlineSeconds)"
_DEADLINE_CAP = "jobSubmission.maxActiveDeadlineSeconds"
_PULL_TIMEOUT = "jobSubmission.pullTimeoutSeconds"
_PULL_REMEDY = "use a smaller image, pull it to the nodes ahead of time, or raise that value"
_TTL_CAP = "jobSubmission.maxTTLSecondsAfterFinished"


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time, and the command to send then."""

    at: datetime
    command: Command


@dataclass(frozen=True, slots=True)
class PhaseObservation:
    """The janitor's first observation of a job in its current phase."""

    at: datetime
    """The time by the janitor's clock, which deadlines are compared with."""
    is_entry: bool
    """True if the job entered the phase then. False if a snapshot reported it, maybe long after that."""

    def phase_start(self, *written: datetime | None) -> datetime:
        """Return when the phase began, as far as the janitor knows.

        Other clocks may be wrong: a node writes the start and the end of a container, and pod-manager writes
        `preparingTime`. Therefore the janitor's own observation counts, if it observed the entry. Otherwise
        the latest of the `written` times counts, because a container cannot start before its admission. A
        time in the future does not count. If none is written, as by PrimeHub, the observation counts.
        """
        if self.is_entry:
            return self.at
        return min(max((time for time in written if time), default=self.at), self.at)


def next_deadline(
    job: JobSeen,
    group: GroupSeen | None,
    lost_since: datetime | None,
    settings: JobSubmission,
    observation: PhaseObservation,
    now: datetime,
) -> Deadline | None:
    """Return the job's next deadline; None if it has none.

    `group` is its PhGroup, if it exists. `lost_since` is the time since which its node has been unresponsive;
    None if it is not. `now`, by the janitor's clock, decides which command a deadline of the past has.
    """
    found = _deadlines(job, group, lost_since, settings, observation, now)
    return min(found, key=lambda deadline: deadline.at, default=None)


def _deadlines(
    job: JobSeen,
    group: GroupSeen | None,
    lost_since: datetime | None,
    settings: JobSubmission,
    observation: PhaseObservation,
    now: datetime,
) -> Iterator[Deadline]:
    of_job = {"uid": job.uid, "name": job.name, "group": job.group, "fence": job.fence}
    is_lost = job.reason == Reason.NODE_LOST and not job.phase.final
    if job.phase is Phase.PREPARING and not is_lost:
        start = observation.phase_start(job.preparing_time)
        seconds, pull_seconds, name = _start_timeouts(group, settings)
        requeue = Requeue(
            **of_job,
            message=f"the pod did not start within {seconds} s",
            spares_pulling=now < _after(start, pull_seconds),
            message_if_pulling=f"its image was not pulled within {pull_seconds} s ({name}): {_PULL_REMEDY}",
        )
        yield Deadline(_after(start, seconds), requeue)
    if job.phase is Phase.RUNNING:
        seconds, cap = _active_deadline(job, group, settings)
        if seconds:
            message = f"it ran longer than its deadline of {seconds} s{cap}"
            decided_on = {"activeDeadlineSeconds": job.active_deadline_seconds}
            time_out = TimeOut(**of_job, message=message, decided_on=decided_on)
            start = observation.phase_start(job.start_time, job.preparing_time)
            yield Deadline(_after(start, seconds), time_out)
    if is_lost and lost_since and settings.node_lost_grace_seconds:
        seconds = settings.node_lost_grace_seconds
        fail = FailNodeLost(**of_job, message=f"node {job.node} was unresponsive for {seconds} s")
        yield Deadline(_after(lost_since, seconds), fail)
    if job.phase.final:
        wanted = _first(job.ttl_seconds_after_finished, settings.default_ttl_seconds_after_finished)
        ttl, cap = _capped(wanted, {_TTL_CAP: settings.max_ttl_seconds_after_finished})
        if ttl:
            message = f"its pod was deleted after {ttl} s{cap}" if cap else ""
            decided_on = {"ttlSecondsAfterFinished": job.ttl_seconds_after_finished}
            reclaim = Reclaim(**of_job, message=message, decided_on=decided_on)
            end = observation.phase_start(job.finish_time, job.start_time, job.preparing_time)
            yield Deadline(_after(end, ttl), reclaim)


def _start_timeouts(group: GroupSeen | None, settings: JobSubmission) -> tuple[int, int, str]:
    """Return the seconds that a pod has to start, those while its image is pulled, and the latter's name."""
    of_group = group.preparing_timeout_seconds if group else None
    seconds = settings.preparing_timeout_seconds if of_group is None else of_group
    if seconds < settings.pull_timeout_seconds:
        return seconds, settings.pull_timeout_seconds, _PULL_TIMEOUT
    name = (
        "jobSubmission.preparingTimeoutSeconds"
        if of_group is None
        else "preparingTimeoutSeconds of its group"
    )
    return seconds, seconds, name


def _active_deadline(job: JobSeen, group: GroupSeen | None, settings: JobSubmission) -> tuple[int, str]:
    """Return the seconds that the job may run, and which cap decided that (spec.md, L8). 0: unlimited."""
    default = group.default_active_deadline_seconds if group else None
    wanted = _first(job.active_deadline_seconds, default, settings.default_active_deadline_seconds)
    caps = {
        _GROUP_CAP: group.max_active_deadline_seconds if group else 0,
        _DEADLINE_CAP: settings.max_active_deadline_seconds,
    }
    return _capped(wanted, caps)


def _capped(wanted: int, caps: Mapping[str, int]) -> tuple[int, str]:
    """Return the smallest of the seconds that limit something, and a text if that is a cap.

    `caps` has the seconds by name. 0 is no limit, also as the result.
    """
    limits = ((seconds, name) for name, seconds in {"": wanted, **caps}.items() if seconds)
    seconds, name = min(limits, key=lambda limit: limit[0], default=(0, ""))
    return seconds, name and f", the cap of {name}"


def _after(moment: datetime, seconds: int) -> datetime:
    """Return the moment plus `seconds`, or the latest possible time.

    A status may contain the year 9999, because other programs can write it.
    """
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _first(*candidates: int | None) -> int:
    """Return the first value that is set; 0 if none is."""
    return next((seconds for seconds in candidates if seconds is not None), 0)

"""The next deadline of a job, and the command that is due then (spec.md, Q5, L8, L10, L12). Pure.

A job has at most one next deadline. Its inputs are the job's phase and times, its group's default, its node,
and the settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from phjob_core.api import Phase, Reason
from phjob_core.messages import Command, FailNodeLost, JobSeen, Reclaim, Requeue, TimeOut
from phjob_runtime.settings import JobSubmission


@dataclass(frozen=True)
class Deadline:
    """A time, and the command to send then."""

    at: datetime
    command: Command


@dataclass(frozen=True)
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
        time in the future does not count.
        """
        if self.is_entry:
            return self.at
        return min(max((time for time in written if time), default=self.at), self.at)


def next_deadline(
    job: JobSeen,
    group_default: int | None,
    lost_since: datetime | None,
    settings: JobSubmission,
    observation: PhaseObservation,
) -> Deadline | None:
    """Return the job's next deadline; None if it has none.

    `group_default` is its group's active deadline in seconds. `lost_since` is the time since which its node
    has been unresponsive; None if it is not.
    """
    found = _deadlines(job, group_default, lost_since, settings, observation)
    return min(found, key=lambda deadline: deadline.at, default=None)


def _deadlines(
    job: JobSeen,
    group_default: int | None,
    lost_since: datetime | None,
    settings: JobSubmission,
    observation: PhaseObservation,
) -> Iterator[Deadline]:
    of_job = {"uid": job.uid, "name": job.name, "group": job.group, "fence": job.fence}
    is_lost = job.reason == Reason.NODE_LOST and not job.phase.final
    if job.phase is Phase.PREPARING and job.preparing_time and not is_lost:
        seconds = settings.preparing_timeout_seconds
        requeue = Requeue(**of_job, message=f"the pod did not start within {seconds} s")
        yield Deadline(_after(observation.phase_start(job.preparing_time), seconds), requeue)
    if job.phase is Phase.RUNNING and job.start_time:
        seconds = _first(job.active_deadline_seconds, group_default, settings.default_active_deadline_seconds)
        if seconds:
            message = f"it ran longer than its deadline of {seconds} s"
            time_out = TimeOut(**of_job, message=message, generation=job.generation)
            start = observation.phase_start(job.start_time, job.preparing_time)
            yield Deadline(_after(start, seconds), time_out)
    if is_lost and lost_since and settings.node_lost_grace_seconds:
        seconds = settings.node_lost_grace_seconds
        fail = FailNodeLost(**of_job, message=f"node {job.node} was unresponsive for {seconds} s")
        yield Deadline(_after(lost_since, seconds), fail)
    if job.phase.final and job.finish_time:
        ttl = _first(job.ttl_seconds_after_finished, settings.default_ttl_seconds_after_finished)
        if ttl:
            reclaim = Reclaim(**of_job, generation=job.generation)
            end = observation.phase_start(job.finish_time, job.start_time, job.preparing_time)
            yield Deadline(_after(end, ttl), reclaim)


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

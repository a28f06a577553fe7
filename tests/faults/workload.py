"""The jobs that run while a fault happens, and the checks of the promises.

The jobs of six groups end in every way that a job can end.
"""

import http
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support import deletions, promises
from tests.support.api import ApiError
from tests.support.cluster import FINAL_PHASES, Cluster
from tests.support.deletions import Deletion
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.history import WatchEvent
from tests.support.waiting import eventually

from phjob_core.labels import label_value

GROUPS = 6
USERS = ("bob", "lin", "pan")
QUOTA = {"gpu": 8}
USER_QUOTA = {"gpu": 4}
MAX_SHOWN_HISTORIES = 3
"""The number of violations that are shown with the history of their job."""
NOTEBOOK_GPUS = 2
"""The GPUs of the notebook in the first group."""


@dataclass(frozen=True)
class JobProfile:
    """The behaviour of a job, and its end unless a third party deletes its pod."""

    fields: dict[str, Any]
    """The arguments of `GroupFixture.job_manifest`."""
    phase: str
    reason: str
    cancelled_when: str = ""
    """The phase in which its user cancels it; `requeued` is Pending after a requeue."""


ORDINARY = JobProfile({"run_for": "1s"}, "Succeeded", "Completed")
PULLED = JobProfile({"start": "4s", "run_for": "1s"}, "Succeeded", "Completed")
"""A job whose node pulls an image first, for less than `preparingTimeoutSeconds`."""
LONG = JobProfile({"run_for": "8s"}, "Succeeded", "Completed")
JOB_PROFILES = [
    JobProfile({"start": "never"}, "Cancelled", "Cancelled", "requeued"),
    *[ORDINARY, PULLED, ORDINARY, LONG],
    JobProfile({"run_for": FOREVER, "activeDeadlineSeconds": 2}, "Failed", "OverActiveDeadline"),
    *[ORDINARY, PULLED, ORDINARY, LONG],
    JobProfile({"run_for": "1s", "exit_code": 3}, "Failed", "Error"),
    *[ORDINARY, PULLED, ORDINARY, LONG],
    JobProfile({"run_for": FOREVER}, "Cancelled", "Cancelled", "Running"),
    *[ORDINARY, PULLED, ORDINARY, LONG],
    JobProfile({"run_for": "1s", "ttlSecondsAfterFinished": 2}, "Succeeded", "Completed"),
    *[ORDINARY, PULLED, ORDINARY, LONG] * 7,
]
"""The profiles of one group's jobs, repeated in this order."""
POD_DELETED = "Failed", "PodDeleted"
"""The phase and the reason with which a job may also end, if a third party has deleted its pod."""


class Workload:
    """Jobs of six groups, with users who submit and cancel them.

    Half of the groups have user quotas, and one has a Jupyter server.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.groups = [GroupFixture(cluster, f"group-{n}", self._quotas(n)).create() for n in range(GROUPS)]
        self.groups[0].start_notebook("jupyter", gpus=NOTEBOOK_GPUS)
        self._profiles: dict[str, JobProfile] = {}
        self._unfinished: set[str] = set()
        self._to_cancel: dict[str, JobProfile] = {}
        self._stopped = threading.Event()

    @staticmethod
    def _quotas(number: int) -> dict[str, Any]:
        return {"groupQuota": QUOTA, **({"userQuota": USER_QUOTA} if number % 2 else {})}

    def submit(self, count: int) -> None:
        """Submit so many more jobs, to the groups in turn. A request without an answer is repeated."""
        for number in range(len(self._profiles), len(self._profiles) + count):
            turn, index = divmod(number, GROUPS)
            profile = JOB_PROFILES[turn % len(JOB_PROFILES)]
            user = USERS[turn % len(USERS)]
            job = self.groups[index].job_manifest(f"job-{number:04}", gpus=1, user=user, **profile.fields)
            self._profiles[job["metadata"]["name"]] = profile
            self._unfinished.add(job["metadata"]["name"])
            if profile.cancelled_when:
                self._to_cancel[job["metadata"]["name"]] = profile
            eventually(lambda job=job: self._try_create(job), "a job is submitted", within=180)  # type: ignore[misc]

    @contextmanager
    def submitting(self, count: int, seconds: float) -> Iterator[None]:
        """Submit so many more jobs, evenly over a time. All of them are submitted when the context ends."""

        def submit() -> None:
            for _ in range(count):
                self.submit(1)
                time.sleep(seconds / count)

        users = threading.Thread(target=submit, daemon=True)
        users.start()
        try:
            yield
        finally:
            users.join()

    def _try_create(self, job: dict[str, Any]) -> bool:
        """Create a job. Returns whether it exists now."""
        try:
            self._cluster.create(job)
        except ApiError as error:
            return error.status == http.HTTPStatus.CONFLICT  # An earlier request was carried out.
        except OSError:
            return False
        return True

    @contextmanager
    def with_cancellations(self) -> Iterator[None]:
        """Cancel jobs as their profiles ask for, until the context ends."""
        users = threading.Thread(target=self._cancel_some, daemon=True)
        users.start()
        try:
            yield
        finally:
            self._stopped.set()
            users.join()

    def _cancel_some(self) -> None:
        while not self._stopped.wait(0.2):
            for name, profile in self._to_cancel.copy().items():  # A copy, because `submit` adds to it.
                job = self._cluster.history.current("PhJob", name)
                if job and job.object["spec"].get("cancel"):
                    del self._to_cancel[name]
                elif job and profile.cancelled_when in _states_of(job):
                    with suppress(ApiError, OSError):
                        self._cluster.cancel(name)

    def submitted_count(self) -> int:
        """Return the number of submitted jobs."""
        return len(self._profiles)

    def unfinished(self) -> list[WatchEvent | None]:
        """Return the jobs that are in no final phase, as last observed; None for an unobserved one."""
        assert not self._cluster.history.incomplete_reason, self._cluster.history.incomplete_reason
        jobs = {name: self._cluster.history.last_event("PhJob", name) for name in list(self._unfinished)}
        self._unfinished -= {name for name, job in jobs.items() if job and job.phase in FINAL_PHASES}
        return [job for name, job in jobs.items() if name in self._unfinished]

    def wait_until_ended(self, count: int | None = None, *, within: float = 300) -> None:
        """Wait until so many jobs, or all, have ended."""
        left = 0 if count is None else len(self._profiles) - count
        eventually(
            lambda: len(self.unfinished()) <= left,
            f"all but {left} jobs have ended",
            within=within,
            diagnostics=lambda: "\n".join(
                job.describe() if job else "unobserved" for job in self.unfinished()[:10]
            ),
        )

    def violations(self, events: list[WatchEvent], *, all_observed: bool = True) -> Iterator[str]:
        """Yield a sentence for each broken promise.

        `all_observed`: the services could observe every revision of every pod.
        """
        yield from promises.state_diagram_violations(events)
        yield from promises.single_pod_violations(events)
        for number, group in enumerate(self.groups):
            user_quota = USER_QUOTA if number % 2 else None
            yield from promises.quota_violations(events, group.name, group_quota=QUOTA, user_quota=user_quota)
            check = promises.order_violations_by_user if user_quota else promises.order_violations
            yield from check(events, group.name)
        yield from self._end_violations(events, all_observed=all_observed)

    def deletions(self, events: list[WatchEvent]) -> list[Deletion]:
        """Return the deletions of jobs' pods that may be a third party's."""
        return deletions.by_third_parties(events)

    def _end_violations(self, events: list[WatchEvent], *, all_observed: bool) -> Iterator[str]:
        """Yield a sentence for each job that did not end as it must.

        A job may also fail with the reason PodDeleted, if a third party has deleted its pod. If the pod's
        last state proves that it never started, the job has to be requeued instead.
        """
        deleted = {deletion.pod for deletion in self.deletions(events)}
        unstarted = deletions.never_started(events)
        succeeded = {event.uid for event in events if event.kind == "Pod" and event.phase == "Succeeded"}
        for name, profile in self._profiles.items():
            job = self._cluster.history.last_event("PhJob", name)
            status = job.object["status"] if job else {}
            end = status.get("phase"), status.get("reason")
            pod = status.get("podUID", "")
            if end == (profile.phase, profile.reason):
                if profile.phase == "Succeeded" and pod not in succeeded:
                    yield f"{name} succeeded, but its pod {pod} did not"
            elif end != POD_DELETED:
                expected, found = f"{profile.phase}, {profile.reason}", ", ".join(map(str, end))
                yield f"{name} must end as {expected}; it is {found}"
            elif all_observed and pod in unstarted:
                yield f"{name} must be requeued, because its pod {pod} never started; it failed, PodDeleted"
            elif pod not in deleted:
                yield f"{name} failed with PodDeleted, but no third party deleted its pod {pod}"

    def explain(self, violations: list[str]) -> str:
        """Return the violations, and the histories of the first jobs with which they begin."""
        histories = [
            self._cluster.describe_job(violation.partition(" ")[0])
            for violation in violations[:MAX_SHOWN_HISTORIES]
        ]
        return "\n".join([*violations, *histories])

    def leftover_pods(self) -> list[str]:
        """Return the pods that should have been deleted."""
        overdue = [
            name for name, profile in self._profiles.items() if "ttlSecondsAfterFinished" in profile.fields
        ]
        cancelled = [name for name, profile in self._profiles.items() if profile.phase == "Cancelled"]
        return [name for name in (*overdue, *cancelled) if self._cluster.pod(name)]

    def longest_avoidable_wait(self, events: list[WatchEvent], since: datetime) -> float:
        """Return the longest time, in seconds after `since`, for which an admissible job waited."""
        return max(
            _longest_avoidable_wait(events, group.name, USER_QUOTA if number % 2 else QUOTA, since)
            for number, group in enumerate(self.groups)
        )


def seconds_to_next_admission(events: Iterable[WatchEvent], since: datetime) -> float | None:
    """Return the time from `since` until a job entered Preparing; None if none did."""
    phases: dict[str, str] = {}
    for event in events:
        if event.kind == "PhJob":
            before, phases[event.uid] = phases.get(event.uid), event.phase
            if event.phase == "Preparing" and before != "Preparing" and event.observed_at > since:
                return (event.observed_at - since).total_seconds()
    return None


def _states_of(job: WatchEvent) -> set[str]:
    """Return the job's phase, and `requeued` if it waits after a requeue."""
    requeued = job.phase == "Pending" and job.object["status"].get("requeued")
    return {job.phase, *(["requeued"] if requeued else [])}


def _longest_avoidable_wait(
    events: list[WatchEvent], group: str, user_quota: dict[str, int], since: datetime
) -> float:
    """Return the longest time, in seconds after `since`, for which an admissible job of the group waited."""
    waiting: dict[str, WatchEvent] = {}
    began: dict[tuple[str, str], datetime] = {}
    longest = timedelta()
    usages = [*promises.usages(events, group)]
    ends = [event.observed_at for event, _ in usages[1:]]
    for (event, used), until in zip(usages, ends, strict=False):
        if event.kind == "PhJob":
            waiting.pop(event.uid, None)
            if not event.gone and event.phase == "Pending" and not event.object["spec"].get("cancel"):
                waiting[event.uid] = event
        admissible = _first_admissible(waiting.values(), used, user_quota, event.observed_at)
        began = {admissible: began.get(admissible, max(event.observed_at, since))} if admissible else {}
        for start in began.values():
            longest = max(longest, until - start)
    return longest.total_seconds()


def _first_admissible(
    waiting: Iterable[WatchEvent],
    used: dict[str, promises.Amounts],
    user_quota: dict[str, int],
    now: datetime,
) -> tuple[str, str] | None:
    """Return the uid and the admission token of the first admissible job; None if there is none.

    Every job needs one GPU.
    """
    if sum(of_user.get("gpu", 0) for of_user in used.values()) >= QUOTA["gpu"]:
        return None
    for job in sorted(waiting, key=lambda event: event.name):
        status = job.object["status"]
        of_user = used.get(label_value(job.object["spec"]["userName"]), {})
        in_backoff = status.get("requeueAfter", "") > now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not in_backoff and of_user.get("gpu", 0) < user_quota["gpu"]:
            return job.uid, status.get("fence", "")
    return None

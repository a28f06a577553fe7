"""What runs while something breaks: jobs of every fate, over six groups, and the judgement of all of it."""

import http
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support import promises
from tests.support.api import ApiError
from tests.support.history import Event
from tests.support.hub import FINAL, Hub
from tests.support.scene import FOREVER, Scene
from tests.support.waiting import eventually

from shared.labels import label_value

GROUPS = 6
USERS = ("bob", "lin", "pan")
QUOTA = {"gpu": 8}
USER_QUOTA = {"gpu": 4}
EXPLAINED = 3
"""Violations that are told with the whole story of their job."""
HELD_BY_JUPYTER = 2
"""GPUs of the first group."""


@dataclass(frozen=True)
class Fate:
    """How a job behaves, and how it must end."""

    fields: dict[str, Any]
    phase: str
    reason: str
    cancelled_when: str = ""
    """The phase in which its user cancels it; `requeued` is Pending once more."""


ORDINARY = Fate({"run_for": "1s"}, "Succeeded", "Completed")
FATES = [
    Fate({"start": "never"}, "Cancelled", "Cancelled", "requeued"),
    *[ORDINARY] * 4,
    Fate({"run_for": FOREVER, "activeDeadlineSeconds": 2}, "Failed", "OverActiveDeadline"),
    *[ORDINARY] * 4,
    Fate({"run_for": "1s", "exit_code": 3}, "Failed", "Error"),
    *[ORDINARY] * 4,
    Fate({"run_for": FOREVER}, "Cancelled", "Cancelled", "Running"),
    *[ORDINARY] * 4,
    Fate({"run_for": "1s", "ttlSecondsAfterFinished": 2}, "Succeeded", "Completed"),
    *[ORDINARY] * 29,
]
"""Of the jobs of one group, in turns."""


class Workload:
    """Jobs of one hub: submitted, cancelled by their users, awaited and judged."""

    def __init__(self, hub: Hub) -> None:
        """Makes the groups: half of them have a quota for each user, and one a Jupyter server."""
        self._hub = hub
        self.scenes = [Scene(hub, f"group-{n}", self._quotas(n)).make() for n in range(GROUPS)]
        self.scenes[0].notebook("jupyter", gpus=HELD_BY_JUPYTER)
        self._fates: dict[str, Fate] = {}
        self._unfinished: set[str] = set()
        self._to_cancel: dict[str, Fate] = {}
        self._ended = threading.Event()

    @staticmethod
    def _quotas(number: int) -> dict[str, Any]:
        return {"groupQuota": QUOTA, **({"userQuota": USER_QUOTA} if number % 2 else {})}

    def submit(self, count: int) -> None:
        """So many more jobs, the groups in turns; an API server that is away is tried again."""
        for number in range(len(self._fates), len(self._fates) + count):
            turn, group = divmod(number, GROUPS)
            fate = FATES[turn % len(FATES)]
            user = USERS[turn % len(USERS)]
            job = self.scenes[group].job(f"job-{number:04}", gpus=1, user=user, **fate.fields)
            self._fates[job["metadata"]["name"]] = fate
            self._unfinished.add(job["metadata"]["name"])
            if fate.cancelled_when:
                self._to_cancel[job["metadata"]["name"]] = fate
            eventually(lambda job=job: self._created(job), "a job is submitted", within=180)  # type: ignore[misc]

    def _created(self, job: dict[str, Any]) -> bool:
        try:
            self._hub.create(job)
        except ApiError as error:
            return error.status == http.HTTPStatus.CONFLICT  # An earlier try was done after all.
        except OSError:
            return False
        return True

    @contextmanager
    def with_users(self) -> Iterator[None]:
        """Inside, they cancel what they would."""
        users = threading.Thread(target=self._cancel_some, daemon=True)
        users.start()
        try:
            yield
        finally:
            self._ended.set()
            users.join()

    def _cancel_some(self) -> None:
        while not self._ended.wait(0.2):
            for name, fate in self._to_cancel.copy().items():  # Others are submitted meanwhile.
                job = self._hub.history.latest("PhJob", name)
                if job and job.object["spec"].get("cancel"):
                    del self._to_cancel[name]
                elif job and fate.cancelled_when in _states(job):
                    with suppress(ApiError, OSError):
                        self._hub.cancel(name)

    def submitted(self) -> int:
        """How many jobs there were up to now."""
        return len(self._fates)

    def unfinished(self) -> list[Event | None]:
        """The jobs that are in no final phase, as last seen."""
        assert not self._hub.history.broken, self._hub.history.broken
        jobs = {name: self._hub.history.last("PhJob", name) for name in list(self._unfinished)}
        self._unfinished -= {name for name, job in jobs.items() if job and job.phase in FINAL}
        return [job for name, job in jobs.items() if name in self._unfinished]

    def until_ended(self, count: int | None = None, *, within: float = 300) -> None:
        """Wait until so many jobs, or all, have ended."""
        left = 0 if count is None else len(self._fates) - count
        eventually(
            lambda: len(self.unfinished()) <= left,
            f"all but {left} jobs have ended",
            within=within,
            instead=lambda: "\n".join(job.line() if job else "unseen" for job in self.unfinished()[:10]),
        )

    def violations(self, events: list[Event]) -> Iterator[str]:
        """What must not have been: invariants I1, I2, I3, I5, and fates."""
        yield from promises.against_state_diagram(events)
        yield from promises.against_one_pod_a_job(events)
        for number, scene in enumerate(self.scenes):
            of_users = USER_QUOTA if number % 2 else None
            yield from promises.over_quota(events, scene.group, group_quota=QUOTA, user_quota=of_users)
            judge = promises.out_of_order_by_user if of_users else promises.out_of_order
            yield from judge(events, scene.group)
        for name, fate in self._fates.items():
            job = self._hub.history.last("PhJob", name)
            status = job.object["status"] if job else {}
            if (status.get("phase"), status.get("reason")) != (fate.phase, fate.reason):
                yield f"{name} was to end as {fate.phase}, {fate.reason}"

    def explained(self, violations: list[str]) -> str:
        """All of them, and what happened to the first of the jobs that they begin with."""
        stories = [self._hub.story(violation.partition(" ")[0]) for violation in violations[:EXPLAINED]]
        return "\n".join([*violations, *stories])

    def leftovers(self) -> list[str]:
        """The pods that are there and should not be."""
        overdue = [name for name, fate in self._fates.items() if "ttlSecondsAfterFinished" in fate.fields]
        cancelled = [name for name, fate in self._fates.items() if fate.phase == "Cancelled"]
        return [name for name in (*overdue, *cancelled) if self._hub.pod(name)]

    def longest_vain_wait(self, events: list[Event], since: datetime) -> float:
        """For how many seconds a job waited, at most, that could have gone (I4); from `since` on."""
        return max(
            _longest_vain_wait(events, scene.group, USER_QUOTA if number % 2 else QUOTA, since)
            for number, scene in enumerate(self.scenes)
        )


def first_admission(events: Iterable[Event], since: datetime) -> float | None:
    """How many seconds after the moment a job first entered Preparing; None if none did."""
    phases: dict[str, str] = {}
    for event in events:
        if event.kind == "PhJob":
            before, phases[event.uid] = phases.get(event.uid), event.phase
            if event.phase == "Preparing" and before != "Preparing" and event.seen > since:
                return (event.seen - since).total_seconds()
    return None


def _states(job: Event) -> set[str]:
    requeued = job.phase == "Pending" and job.object["status"].get("requeued")
    return {job.phase, *(["requeued"] if requeued else [])}


def _longest_vain_wait(events: list[Event], group: str, user_quota: dict[str, int], since: datetime) -> float:
    waiting: dict[str, Event] = {}
    began: dict[tuple[str, str], datetime] = {}
    longest = timedelta()
    usages = [*promises.usages(events, group)]
    ends = [event.seen for event, _ in usages[1:]]
    for (event, used), until in zip(usages, ends, strict=False):
        if event.kind == "PhJob":
            waiting.pop(event.uid, None)
            if not event.gone and event.phase == "Pending" and not event.object["spec"].get("cancel"):
                waiting[event.uid] = event
        could = _first_that_could_go(waiting.values(), used, user_quota, event.seen)
        began = {could: began.get(could, max(event.seen, since))} if could else {}
        for start in began.values():
            longest = max(longest, until - start)
    return longest.total_seconds()


def _first_that_could_go(
    waiting: Iterable[Event], used: dict[str, promises.Amounts], user_quota: dict[str, int], now: datetime
) -> tuple[str, str] | None:
    """The job, and its last admission; every job wants one GPU."""
    if sum(of_user.get("gpu", 0) for of_user in used.values()) >= QUOTA["gpu"]:
        return None
    for job in sorted(waiting, key=lambda event: event.name):
        status = job.object["status"]
        of_user = used.get(label_value(job.object["spec"]["userName"]), {})
        paused = status.get("requeueAfter", "") > now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not paused and of_user.get("gpu", 0) < user_quota["gpu"]:
            return job.uid, status.get("fence", "")
    return None

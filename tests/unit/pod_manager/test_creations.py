"""When the pod of an admitted job is created, on the simulated API server and clock."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from tests.simulation.kube import ApiWeather, SimulatedKube
from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import Process, ProcessClock
from tests.simulation.store import Object, Store
from tests.support.builders import a_job, an_image, an_instance_type

from pod_manager.events import Events
from pod_manager.jobs import Jobs
from pod_manager.known import Known
from pod_manager.logs import Logs
from pod_manager.plan import Log
from pod_manager.pods import Pods
from pod_manager.writes import Writer
from shared.messages import JobGone, PodGone, PodSeen
from shared.projection import job_seen
from shared.settings import JobSubmission

T = TypeVar("T")
LISTED = dict.fromkeys(("phjobs", "pods", "nodes", "images", "instancetypes", "phgroups", "datasets"), 0)


def admitted(store: Store) -> Object:
    """A job that another pod-manager has admitted, without a pod."""
    store.create("images", an_image())
    store.create("instancetypes", an_instance_type())
    store.create("phjobs", a_job("job-1"))
    status = {
        "phase": "Preparing",
        "reason": "Admitted",
        "fence": "scheduler/1#1",
        "podName": "job-1",
        "preparingTime": "2026-01-01T00:00:00Z",
        "resources": {"cpu": "500m", "memory": "256M"},
    }
    for field, value in status.items():
        store.patch("phjobs", "job-1", [{"op": "add", "path": f"/status/{field}", "value": value}])
    return store.all("phjobs")[0]


def play(scene: Callable[[Jobs, Store, ApiWeather], Awaitable[T]]) -> T:
    """What the scene comes to, of a pod-manager that has just heard of an admitted job."""
    loop = SimulatedLoop()
    store = Store(loop.time)

    async def played() -> T:
        process = Process("pod-manager", "pod-manager-1")
        clock = ProcessClock(process)
        weather = ApiWeather(Random(1))  # noqa: S311 - it is to be repeated
        api = SimulatedKube(store, weather, process)
        writer = Writer(clock)
        pods, logs = Pods(api, clock, writer, JobSubmission()), Logs(api, clock, None, 0)
        jobs = Jobs(api, clock, writer, pods, logs, Events(api, clock))
        job = admitted(store)
        jobs.hold_creations()
        jobs.begin(LISTED)
        jobs.fact(job_seen(job), listed=True)
        jobs.end()
        try:
            return await scene(jobs, store, weather)
        finally:
            await jobs.close()

    try:
        return loop.run_until_complete(played())
    finally:
        loop.close()


def pods_after(meanwhile: Callable[[Store], None] | None) -> tuple[int, int]:
    """How many pods there are while creations are held, and after they are resumed."""

    async def scene(jobs: Jobs, store: Store, _: ApiWeather) -> tuple[int, int]:
        await asyncio.sleep(10)
        held = len(store.all("pods"))
        if meanwhile:
            meanwhile(store)
        jobs.resume_creations()
        await asyncio.sleep(10)
        return held, len(store.all("pods"))

    return play(scene)


def test_no_pod_is_created_while_creations_are_held() -> None:
    """A new session's scheduler does not know yet which jobs there are."""
    assert pods_after(None) == (0, 1)


def test_no_pod_is_created_of_a_job_that_was_deleted_while_creations_were_held() -> None:
    """Though nobody has told that it is gone: the scheduler does not know of it, and counts it no more."""
    assert pods_after(lambda store: store.delete("phjobs", "job-1")) == (0, 0)


def after_server_errors(*, done: float) -> tuple[str, int]:
    """The reason of a job, and its pods, when the API server has answered every creation with 500."""

    async def scene(jobs: Jobs, store: Store, weather: ApiWeather) -> tuple[str, int]:
        weather.trouble["create", "pods"] = done
        jobs.resume_creations()
        await asyncio.sleep(30)
        return store.all("phjobs")[0]["status"]["reason"], len(store.all("pods"))

    return play(scene)


def test_a_job_whose_pod_the_api_server_can_not_create_is_requeued() -> None:
    """Though each try but the first has confirmed its admission anew."""
    assert after_server_errors(done=0) == ("Requeued", 0)


def test_a_job_whose_pod_is_there_in_spite_of_server_errors_keeps_it() -> None:
    """A server may answer with an error and do it all the same."""
    assert after_server_errors(done=1) == ("Admitted", 1)


def pods_when_over(*, recorded: bool) -> int:
    """The pods of a job that is over in spite of them: only its record is left, or nothing."""

    async def scene(jobs: Jobs, store: Store, _: ApiWeather) -> int:
        jobs.resume_creations()
        await asyncio.sleep(10)
        seen = job_seen(store.all("phjobs")[0])
        if recorded:
            over = [{"op": "add", "path": "/status/reclaimed", "value": True}]
            store.patch("phjobs", "job-1", over)
        else:
            store.delete("phjobs", "job-1")
        gone = JobGone(uid=seen.uid, name="job-1", resource_version=store.revision, group=seen.group)
        jobs.fact(gone, listed=False)
        await asyncio.sleep(10)
        return len(store.all("pods"))

    return play(scene)


def test_a_pod_that_came_after_its_jobs_end_is_deleted() -> None:
    """The API server created it late: nobody waits for it, and it would hold its room for ever."""
    assert pods_when_over(recorded=True) == 0


def test_the_pod_of_a_deleted_job_is_left_to_the_garbage_collector() -> None:
    """Kubernetes deletes it, in its own time."""
    assert pods_when_over(recorded=False) == 1


def with_a_pod_that_is_gone() -> tuple[Known, Object]:
    """What is known of a job that was admitted by us and whose pod came and went."""
    known, job = Known(), admitted(Store(lambda: 0.0))
    known.confirmed(job, datetime.fromisoformat("2026-01-01T00:00:00Z"), inherited_at=None)
    seen, uid = job_seen(job), job["metadata"]["uid"]
    pod = PodSeen(
        uid="pods-1", name="job-1", resource_version=90, group="phusers", user="bob",
        resources={}, phase="Pending", job_uid=uid, fence=seen.fence,
    )  # fmt: skip
    known.pod(pod)
    known.pod_gone(PodGone(uid="pods-1", name="job-1", resource_version=91, group="phusers", job_uid=uid))
    return known, job


def had_pod(known: Known, uid: str) -> bool:
    """Whether the job is known to have had a pod of its admission."""
    job = known.jobs.get(uid)
    assert job
    return known.situation(job, Log()).had_pod


def test_a_pod_that_was_seen_says_nothing_of_one_that_a_successor_means_to_create() -> None:
    """Who slept would take the job for one without a pod, right when its successor creates the next."""
    known, job = with_a_pod_that_is_gone()
    seen = job_seen(job)
    assert seen.preparing_time
    assert had_pod(known, seen.uid)
    later = {"resource_version": seen.resource_version + 1}
    known.job(seen.model_copy(update={"message": "something else", **later}))
    assert had_pod(known, seen.uid)
    moved = {"preparing_time": seen.preparing_time + timedelta(seconds=1)}
    known.job(seen.model_copy(update={**moved, "resource_version": seen.resource_version + 2}))
    assert not had_pod(known, seen.uid)


def test_an_admission_that_a_successor_has_confirmed_is_no_more_ours() -> None:
    """Who takes over says so first; whoever was before him does, too, before he does anything."""
    known, job = Known(), admitted(Store(lambda: 0.0))
    seen = job_seen(job)
    assert seen.preparing_time
    known.confirmed(job, seen.preparing_time, inherited_at=None)
    assert known.confirmation(seen)
    moved = {"preparing_time": seen.preparing_time + timedelta(seconds=1)}
    known.job(seen.model_copy(update={**moved, "resource_version": seen.resource_version + 1}))
    assert known.confirmation(seen) is None

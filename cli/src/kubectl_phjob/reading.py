"""What the commands read of Kubernetes, as facts: one group, one job, all groups.

Every list is asked for at the same time. What the user may not list is left out and said so; what an
object means is `shared.projection`'s and the watcher's part.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from kubectl_phjob.access import UserKube
from kubectl_phjob.errors import CliError, Exit
from kubectl_phjob.look import Facts, Look
from pod_manager.diagnosis import SILENT, why_not_started
from scheduler.catalog import Catalog
from shared.errors import RefusedError
from shared.kube import Object, Resource
from shared.labels import GROUP_LABEL, label_value
from shared.messages import GroupSeen, JobSeen, PodSeen
from shared.phjob import GROUP, VERSION
from shared.projection import job_seen, pod_seen
from watcher import translate
from watcher.translate import UntranslatableError, guarded

T = TypeVar("T")

PHJOBS = Resource("phjobs", GROUP, VERSION)
PHGROUPS = Resource("phgroups", GROUP, VERSION)
INSTANCE_TYPES = Resource("instancetypes", GROUP, VERSION)
IMAGES = Resource("images", GROUP, VERSION)
PODS = Resource("pods")


def now() -> datetime:
    """The time of day, by this machine's clock."""
    return datetime.now(UTC)


def jobs_of(group: str | None = None, *, phase: str = "", unfinished: bool = False) -> Resource:
    """The PhJobs of a group; `unfinished`: without the records of which nothing is left."""
    chosen = {"spec.groupName=": group, "status.phase=": phase, "status.reclaimed!=": unfinished and "true"}
    selector = ",".join(f"{field}{_escaped(value)}" for field, value in chosen.items() if value)
    return Resource("phjobs", GROUP, VERSION, field_selector=selector)


async def look(kube: UserKube, group: str, *more: JobSeen, must_exist: bool = False) -> Look:
    """The group as it is now; `more`: jobs that are only thought of.

    With `must_exist` it may also be given by its object's name.

    Raises:
        CliError: there is no such group, and it must exist.

    """
    async with asyncio.TaskGroup() as tasks:
        listed = tasks.create_task(everything(kube, PHGROUPS, translate.group))
        types = tasks.create_task(everything(kube, INSTANCE_TYPES, translate.instance_type))
        images = tasks.create_task(everything(kube, IMAGES, translate.image))
        members = tasks.create_task(_members(kube, group))
    groups = listed.result()
    found = _find(groups, group)
    if found is None and must_exist:
        raise CliError(_no_such(groups, group, kube.namespace), Exit.NOT_FOUND)
    name = found.group if found else group
    jobs, pods = members.result() if name == group else await _members(kube, name)
    facts = Facts(
        name, found, [*jobs, *more], pods or (), groups, types.result(), images.result(), pods is not None
    )
    return Look(facts, now())


async def _members(kube: UserKube, group: str) -> tuple[list[JobSeen], list[PodSeen] | None]:
    async with asyncio.TaskGroup() as tasks:
        jobs = tasks.create_task(everything(kube, jobs_of(group, unfinished=True), job_seen))
        pods = tasks.create_task(_pods(kube, group))
    return jobs.result(), pods.result()


def _find(groups: Sequence[GroupSeen], name: str) -> GroupSeen | None:
    """The group of that name, as the scheduler finds it; else by its object's name."""
    catalog = Catalog()
    for group in groups:
        catalog.put_group(group)
    return catalog.groups.get(name) or next((group for group in groups if group.name == name), None)


def _no_such(groups: Sequence[GroupSeen], name: str, namespace: str) -> str:
    if not groups:
        return f"there are no groups in namespace {namespace!r}: choose that of the jobs with --namespace"
    known = ", ".join(sorted(g.group for g in groups)[:10])
    return f"there is no group {name!r} in namespace {namespace!r}; there are: {known}"


async def job(kube: UserKube, name: str) -> Object:
    """The PhJob.

    Raises:
        CliError: there is none.

    """
    found = await kube.get(PHJOBS, name)
    if found is None:
        msg = f"there is no job {name!r} in namespace {kube.namespace!r}"
        raise CliError(msg, Exit.NOT_FOUND)
    return found


async def why_its_pod_waits(kube: UserKube, job: JobSeen) -> str:
    """Why the job's pod has not started, in pod-manager's own words; empty if nothing is known."""
    try:
        found = await kube.get(PODS, job.name)
        if found is None or not found["metadata"].get("labels", {}).get(GROUP_LABEL):
            return ""
        pod: PodSeen = pod_seen(found)
        if pod.reason not in SILENT:
            return why_not_started(pod)
        events = Resource("events", field_selector=f"involvedObject.uid={pod.uid}")
        return why_not_started(pod, (await kube.list(events, dict)).items)
    except RefusedError:
        return ""


async def _pods(kube: UserKube, group: str) -> list[PodSeen] | None:
    """The group's pods; None if the user may not list pods."""
    resource = Resource("pods", label_selector=f"{GROUP_LABEL}={label_value(group)}")
    try:
        return await everything(kube, resource, pod_seen)
    except RefusedError as error:
        if error.status != 403:
            raise
        return None


async def everything(kube: UserKube, resource: Resource, translate: Callable[[Object], T]) -> list[T]:
    """All objects of the resource, each as it is translated."""

    def project(item: Object) -> Any:
        try:
            return guarded(translate, item)
        except UntranslatableError:
            return None  # As the watcher does: one odd object is nobody else's trouble.

    return [item for item in (await kube.list(resource, project)).items if item is not None]


def _escaped(value: object) -> str:
    """A value in a field selector."""
    text = str(value)
    for character in "\\,=":
        text = text.replace(character, f"\\{character}")
    return text

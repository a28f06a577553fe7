"""Reads groups, jobs and pods from the API server, as facts.

Independent lists are requested at the same time. Pods that the user may not list are left out, and the
snapshot shows it. `phjob_core` defines what an object means.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import UserKube
from phjob_cli.snapshot import Facts, GroupSnapshot
from phjob_core import catalog_projection, kinds
from phjob_core.api import Notebooks, Object
from phjob_core.catalog_projection import ProjectionError, project_or_raise
from phjob_core.diagnosis import UNINFORMATIVE_REASONS, describe_start_obstacle
from phjob_core.errors import RejectedError
from phjob_core.gpus import GpuResources
from phjob_core.groups import Groups
from phjob_core.labels import GROUP_LABEL, label_value
from phjob_core.messages import GroupSeen, JobSeen, PodSeen
from phjob_core.projection import pod_message, project_job_with_message, project_pod
from phjob_core.quantities import Amounts
from phjob_core.resource import Resource

T = TypeVar("T")

PHJOBS = kinds.PHJOBS.resource
PHGROUPS = kinds.PHGROUPS.resource
INSTANCE_TYPES = kinds.INSTANCE_TYPES.resource
IMAGES = kinds.IMAGES.resource
PODS = kinds.PODS.resource
EVENTS = Resource("events")

MAX_GROUP_NAMES = 10
"""Names of existing groups in the error about a missing one."""


def utc_now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def select_jobs(group: str | None = None, *, phase: str = "", with_reclaimed: bool = True) -> Resource:
    """Return the resource that selects the PhJobs of a group, or of all groups."""
    fields = {
        "spec.groupName=": group,
        "status.phase=": phase,
        "status.reclaimed!=": "" if with_reclaimed else "true",
    }
    selector = ",".join(f"{field}{_escape_selector_value(value)}" for field, value in fields.items() if value)
    return replace(PHJOBS, field_selector=selector)


async def list_all(kube: UserKube, resource: Resource, project: Callable[[Object], T]) -> list[T]:
    """Return all objects of the resource, each as `project` returns it.

    An object that cannot be projected is left out, as in the watcher.
    """

    def project_or_none(item: Object) -> Any:
        try:
            return project_or_raise(project, item)
        except ProjectionError:
            return None

    return [item for item in (await kube.list(resource, project_or_none)).items if item is not None]


async def group_ids(kube: UserKube) -> dict[str, str]:
    """Return the ids of the groups that have one, by name; none if the user may not read groups."""
    try:
        listed = await list_all(kube, PHGROUPS, catalog_projection.project_group)
    except RejectedError as error:
        if error.status != 403:
            raise
        return {}
    groups = Groups()
    for group in listed:
        groups.upsert(group)
    return {group.group: group.group_id for group in groups.counting() if group.group_id}


async def get_job(kube: UserKube, name: str) -> Object:
    """Return the PhJob.

    Raises:
        CliError: The job does not exist.

    """
    found = await kube.get(PHJOBS, name)
    if found is None:
        msg = f"there is no job {name!r} in namespace {kube.namespace!r}"
        raise CliError(msg, Exit.NOT_FOUND)
    return found


async def pod_problem(kube: UserKube, job: JobSeen) -> str:
    """Return why the job's pod has not started; empty if that is unknown.

    The text is the one that pod-manager writes into the job's message.
    """
    try:
        found = await kube.get(PODS, job.name)
        if found is None or not found["metadata"].get("labels", {}).get(GROUP_LABEL):
            return ""
        pod: PodSeen = project_pod(found)
        if pod.reason not in UNINFORMATIVE_REASONS:
            return describe_start_obstacle(pod, pod_message(found))
        events = replace(EVENTS, field_selector=f"involvedObject.uid={pod.uid}")
        return describe_start_obstacle(pod, events=(await kube.list(events, dict)).items)
    except RejectedError:
        return ""


async def take_snapshot(
    kube: UserKube, name: str, *hypothetical: JobSeen, must_exist: bool = False
) -> GroupSnapshot:
    """Return the group as it is now, and as if the hypothetical jobs were submitted.

    With `must_exist`, `name` may also be the name of the PhGroup object.

    Raises:
        CliError: The group must exist, and does not.

    """
    async with asyncio.TaskGroup() as tasks:
        listed_groups = tasks.create_task(list_all(kube, PHGROUPS, _project_group))
        types = tasks.create_task(list_all(kube, INSTANCE_TYPES, catalog_projection.project_instance_type))
        images = tasks.create_task(list_all(kube, IMAGES, catalog_projection.project_image))
        members = tasks.create_task(_list_members(kube, name))
    settings = {group.uid: reported for group, reported in listed_groups.result()}
    groups = [group for group, _ in listed_groups.result()]
    group = _find_group(groups, name)
    if group is None and must_exist:
        raise CliError(_describe_missing_group(groups, name, kube.namespace), Exit.NOT_FOUND)
    group_name = group.group if group else name
    jobs, pods = members.result() if group_name == name else await _list_members(kube, group_name)
    facts = Facts(
        name=group_name,
        group=group,
        jobs=[*jobs, *hypothetical],
        pods=pods or (),
        groups=groups,
        instance_types=types.result(),
        images=images.result(),
        can_list_pods=pods is not None,
        default_limits=settings[group.uid].default_limits if group else {},
        gpus=GpuResources(settings[group.uid].gpu_resource_names if group else ()),
        notebooks=settings[group.uid].notebooks if group else "first",
    )
    return GroupSnapshot(facts, utc_now())


class _Settings(NamedTuple):
    """The settings that the scheduler reports in a group's status. There are none before the first report."""

    default_limits: Amounts
    gpu_resource_names: Sequence[str]
    notebooks: Notebooks


def _project_group(item: Object) -> tuple[GroupSeen, _Settings]:
    """Return the group, and the settings in its status."""
    settings = _Settings(
        catalog_projection.project_default_limits(item),
        catalog_projection.project_gpu_resource_names(item),
        catalog_projection.project_notebooks(item),
    )
    return catalog_projection.project_group(item), settings


async def _list_members(kube: UserKube, group: str) -> tuple[list[JobSeen], list[PodSeen] | None]:
    """Return the group's jobs and pods; no pods (None) if the user may not list them."""
    async with asyncio.TaskGroup() as tasks:
        jobs = tasks.create_task(
            list_all(kube, select_jobs(group, with_reclaimed=False), project_job_with_message)
        )
        pods = tasks.create_task(_list_pods(kube, group))
    return jobs.result(), pods.result()


async def _list_pods(kube: UserKube, group: str) -> list[PodSeen] | None:
    resource = replace(PODS, label_selector=f"{GROUP_LABEL}={label_value(group)}")
    try:
        return await list_all(kube, resource, project_pod)
    except RejectedError as error:
        if error.status != 403:
            raise
        return None


def _find_group(groups: Sequence[GroupSeen], name: str) -> GroupSeen | None:
    """Return the group of that name, otherwise the PhGroup object of that name.

    Of several groups with one name, it is the one that counts for the scheduler.
    """
    catalog = Groups()
    for group in groups:
        catalog.upsert(group)
    return catalog.get(name) or next((group for group in groups if group.name == name), None)


def _describe_missing_group(groups: Sequence[GroupSeen], name: str, namespace: str) -> str:
    if not groups:
        return f"there are no groups in namespace {namespace!r}: choose another one with --namespace"
    existing = ", ".join(sorted(group.group for group in groups)[:MAX_GROUP_NAMES])
    return f"there is no group {name!r} in namespace {namespace!r}; existing groups: {existing}"


def _escape_selector_value(value: str) -> str:
    """Return the value, escaped for a field selector."""
    for character in "\\,=":
        value = value.replace(character, f"\\{character}")
    return value

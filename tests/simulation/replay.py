"""A replay of the store's history: the cluster at each revision, for the checks of a run.

It applies the rules of queues and quotas in the simplest way, and uses no service's own state. `admissions`
and `outcomes` compare the services' steps with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

from tests.simulation.store import Change, Object, job_of
from tests.support.promises import has_ended, is_gated

from phjob_core import quantities
from phjob_core.labels import GROUP_LABEL, USER_LABEL, label_value

Amounts = dict[str, int]
parse, parse_primehub = cache(quantities.parse), cache(quantities.parse_primehub)

ADMITTED_PHASES = ("Preparing", "Running")
FINAL_PHASES = ("Succeeded", "Failed", "Cancelled")
EVERYONE = "everyone"
"""The group whose grants apply to all groups."""
MAX_REACTION_SECONDS = 60.0
"""The maximum time in which a service learns of a change, and writes its decision about it."""


@dataclass
class JobHistory:
    """The history of one job up to a revision."""

    uid: str
    created: Change
    latest: Object
    gone: bool = False
    admissions: list[Change] = field(default_factory=list)
    requeues: list[Change] = field(default_factory=list)
    """The changes that increased `status.requeued`."""
    retries: list[Change] = field(default_factory=list)
    """The changes that increased `status.retried`."""
    is_feasible: bool = False
    """True if the current catalog allows the job to run."""
    was_feasible: bool = False
    was_infeasible: bool = False
    was_over_limit: bool = False
    """True if its user had as many jobs that could wait at its creation as may be Pending."""
    limits: list[Amounts] = field(default_factory=list)
    """All limits that its instance type has had since the job's creation."""
    waiting_since: tuple[float, int] | None = None
    """The time and revision since which the job waits and is feasible, without interruption."""
    since_catalog_change: bool = False
    """True if `waiting_since` is a change of the catalog, of which a service may learn later."""
    pods: list[str] = field(default_factory=list)
    suspended_since: float | None = None
    """The time since which its user keeps it suspended, without interruption; 0 if since its creation."""
    is_key_certain: bool = True
    """False if the job was edited before its revision was recorded, which a new watcher cannot know."""

    @property
    def spec(self) -> Object:
        """Return the current spec."""
        spec: Object = self.latest["spec"]
        return spec

    @property
    def status(self) -> Object:
        """Return the current status."""
        status: Object = self.latest["status"]
        return status

    @property
    def group(self) -> str:
        """Return the name of the group."""
        return str(self.spec["groupName"])

    @property
    def user(self) -> str:
        """Return the name of the user."""
        return str(self.spec["userName"])

    @property
    def queue_key(self) -> tuple[str, int, str]:
        """Return the sort key of the job in its queue (spec.md, Q1)."""
        metadata = self.created.object["metadata"]
        return metadata["creationTimestamp"], self.created.revision, metadata["name"]

    @property
    def is_waiting(self) -> bool:
        """Return whether the job waits for its admission, in its queue or in its backoff."""
        metadata = self.latest["metadata"]
        unwanted = self.spec.get("cancel") or self.spec.get("suspend") or "deletionTimestamp" in metadata
        return not self.gone and self.status["phase"] == "Pending" and not unwanted


@dataclass
class NotebookHistory:
    """The history of one gated notebook up to a revision."""

    name: str
    group: str
    """The name of its group."""
    user: str
    queue_key: tuple[str, str]
    """Its creation time and name."""
    waiting_since: tuple[float, int] | None
    """The time and revision since which it waits and is feasible; None if it does not wait."""


@dataclass(frozen=True)
class Usage:
    """The usage and the quotas of a group at one revision."""

    at: float
    revision: int
    admitted: dict[str, Amounts]
    """The usage of each user's jobs and their pods, and of the notebooks that PhJob admitted."""
    others: dict[str, Amounts]
    """The usage of each user's other pods."""
    user_quota: Amounts
    group_quota: Amounts

    def used_by(self, user: str, resource: str) -> int:
        """Return the usage of all jobs and pods of the user."""
        return self.admitted.get(user, {}).get(resource, 0) + self.others.get(user, {}).get(resource, 0)


class Replay:
    """The cluster at one revision, and the part of its past that the rules need."""

    def __init__(self) -> None:
        self.revision = 0
        self.jobs: dict[str, JobHistory] = {}
        self.notebooks: dict[str, NotebookHistory] = {}
        """Every notebook that was created with a gate, by uid."""
        self.pods: dict[str, Object] = {}
        self.ended_pods: set[str] = set()
        """The uids of the pods of which no container runs or can still start."""
        self.usages: dict[str, list[Usage]] = {}
        """The usages of each group, after each change that may affect it."""
        self.last: dict[str, Object] = {}
        """The last state of every pod that ever existed, by uid."""
        self.deletions: dict[str, Change] = {}
        """The change that requested each pod's deletion, or removed the pod, by uid."""
        self._catalog: dict[str, dict[str, Object]] = {"phgroups": {}, "instancetypes": {}, "images": {}}
        self._pending_limits: dict[str, int] = {}
        """The limit of pending jobs of each user, by the name of the group. Nobody edits it."""
        self._past_catalogs: list[tuple[float, dict[str, dict[str, Object]]]] = []
        """Each earlier catalog, with the time at which it was replaced."""

    def catch_up(self, changes: Sequence[Change]) -> None:
        """Apply the changes of a growing history that are not applied yet."""
        for change in changes[self.revision :]:
            self.apply(change)

    def usages_since(self, group: str, at: float) -> list[Usage]:
        """Return the group's usage at that time, and each later one."""
        usages = self.usages.get(group, [])
        first = next((n for n, usage in enumerate(usages) if usage.at >= at), len(usages))
        return usages[max(0, first - 1) :]

    def apply(self, change: Change) -> None:
        """Apply the next change."""
        self.revision = change.revision
        name, uid = change.object["metadata"]["name"], change.object["metadata"]["uid"]
        if change.plural in self._catalog:
            self._past_catalogs.append(
                (change.at, {plural: dict(items) for plural, items in self._catalog.items()})
            )
            self._catalog[change.plural].pop(name, None)
            if not change.gone:
                self._catalog[change.plural][name] = change.object
                if change.plural == "phgroups":
                    self._pending_limits[name] = change.object["spec"].get("maxPendingPerUser", 0)
            for job in self.jobs.values():
                self._update_feasibility(job, change, since_catalog_change=True)
            for waiting, notebook in self.notebooks.items():
                self._update_notebook(notebook, waiting, change)
            groups = set(self._groups())
        elif change.plural == "phjobs":
            if uid not in self.jobs:
                self.jobs[uid] = JobHistory(uid, change, change.object)
                self.jobs[uid].was_over_limit = self._is_over_limit(self.jobs[uid])
                self._apply_past_catalogs(self.jobs[uid])
            job = self.jobs[uid]
            self._apply_job(job, change)
            groups = {job.spec["groupName"]}
        elif change.plural == "pods":
            self._apply_pod(change)
            groups = self._groups_of(change)
        else:
            return
        for group in groups:
            self.usages.setdefault(group, []).append(self._usage(group, change))

    def _apply_job(self, job: JobHistory, change: Change) -> None:
        before, now = job.latest["status"], change.object["status"]
        if change.before is not None and not before.get("revision") and not now.get("revision"):
            job.is_key_certain = False
        job.latest, job.gone = change.object, change.gone
        if not job.spec.get("suspend"):
            job.suspended_since = None
        elif job.suspended_since is None:
            job.suspended_since = change.at if change.before else 0.0
        if change.gone:
            job.waiting_since = None
            return
        if before["phase"] == "Pending" and now["phase"] == "Preparing":
            job.admissions.append(change)
        if now.get("requeued", 0) > before.get("requeued", 0):
            job.requeues.append(change)
            job.waiting_since = None  # The requeue starts a new wait.
        if now.get("retried", 0) > before.get("retried", 0):
            job.retries.append(change)
            job.waiting_since = None
        self._update_feasibility(job, change, since_catalog_change=False)

    def _is_over_limit(self, job: JobHistory) -> bool:
        """Return whether the new job's user has as many other jobs that could wait as may be Pending.

        A job that is Preparing may return to its queue before the scheduler observes the new one. No other
        job can begin to wait ahead of it later.
        """
        limit = self._pending_limits.get(job.spec["groupName"], 0)
        owner = (job.spec["groupName"], job.spec["userName"])
        others = [
            other
            for other in self.jobs.values()
            if other is not job and not other.gone and other.status["phase"] in ("Pending", "Preparing")
            if (other.spec["groupName"], other.spec["userName"]) == owner
        ]
        return bool(limit) and len(others) >= limit

    def _groups_of(self, change: Change) -> set[str]:
        """Return the groups whose usage a pod affects, by its job or its labels."""
        if uid := job_of(change.object):
            return {self.jobs[uid].spec["groupName"]} if uid in self.jobs else set()
        labels = [
            (item or {"metadata": {}})["metadata"].get("labels") for item in (change.before, change.object)
        ]
        named = {(of or {}).get(GROUP_LABEL, "") for of in labels}
        return {group for group in self._groups() if label_value(group) in named}

    def _apply_pod(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        self.pods.pop(uid, None)
        self.last[uid] = change.object
        if change.gone or "deletionTimestamp" in change.object["metadata"]:
            self.deletions.setdefault(uid, change)
        job = self.jobs.get(job_of(change.object))
        if job and uid not in job.pods:
            job.pods.append(uid)
        if change.gone or has_ended(change.object):
            self.ended_pods.add(uid)
        if not change.gone:
            self.pods[uid] = change.object
        if change.before is None and is_gated(change.object) and not job_of(change.object):
            labels, metadata = change.object["metadata"]["labels"], change.object["metadata"]
            group, user = (labels[name].removeprefix("escaped-") for name in (GROUP_LABEL, USER_LABEL))
            key = metadata["creationTimestamp"], metadata["name"]
            self.notebooks[uid] = NotebookHistory(metadata["name"], group, user, key, None)
        if notebook := self.notebooks.get(uid):
            self._update_notebook(notebook, uid, change)

    def is_feasible_notebook(self, pod: Object, group: str) -> bool:
        """Return whether a notebook fits into the quotas of its group, if nothing else uses them."""
        spec = self.group(group)
        if spec is None:
            return False
        charge = pod_charge(pod)
        quotas = (quota_of(spec, "userQuota"), quota_of(spec, "groupQuota"))
        return all(charge.get(name, 0) <= limit for quota in quotas for name, limit in quota.items())

    def waiting_notebooks_charge(self, user: str, group: str) -> Amounts:
        """Return the charge of a user's notebooks that still have their gate."""
        of_user: dict[str, Amounts] = {}
        for uid, notebook in self.notebooks.items():
            pod = self.pods.get(uid)
            if pod and is_gated(pod) and (notebook.user, notebook.group) == (user, group):
                _add(of_user, user, pod_charge(pod))
        return of_user.get(user, {})

    def _update_notebook(self, notebook: NotebookHistory, uid: str, change: Change) -> None:
        """Update since when a notebook waits and is feasible."""
        pod = self.pods.get(uid)
        waits = pod and uid not in self.ended_pods and is_gated(pod)
        if not (pod and waits and self.is_feasible_notebook(pod, notebook.group)):
            notebook.waiting_since = None
        elif notebook.waiting_since is None:
            notebook.waiting_since = change.at, change.revision

    # --- the catalog ---

    def _groups(self) -> Iterator[str]:
        for name, item in self._catalog["phgroups"].items():
            yield item["spec"].get("groupName") or name

    def group(self, name: str) -> Object | None:
        """Return the spec of a group. If several objects name it, the oldest counts."""
        objects = [
            item
            for object_name, item in self._catalog["phgroups"].items()
            if (item["spec"].get("groupName") or object_name) == name
        ]
        oldest = min(objects, key=lambda item: item["metadata"]["creationTimestamp"], default=None)
        return oldest and oldest["spec"]

    def limits_of(self, kind: str) -> Amounts | None:
        """Return the limits of an instance type; None if it does not exist."""
        item = self._catalog["instancetypes"].get(kind)
        if item is None:
            return None
        prefix = "limits."
        return {
            key.removeprefix(prefix): parse_primehub(key.removeprefix(prefix), value)
            for key, value in item["spec"].items()
            if key.startswith(prefix)
        }

    def request(self, job: Object) -> Amounts | None:
        """Return the job's charge; None if the current catalog does not allow it (spec.md, Q4)."""
        spec = job["spec"]
        group, everyone = self.group(spec["groupName"]), self.group(EVERYONE) or {}
        limits = self.limits_of(spec["instanceType"])
        if group is None or limits is None or spec["image"] not in self._catalog["images"]:
            return None
        for field_, name in (("instanceTypes", spec["instanceType"]), ("images", spec["image"])):
            if name not in (*(group.get(field_) or ()), *(everyone.get(field_) or ())):
                return None
        request = charge_of(limits)
        quotas = (quota_of(group, "userQuota"), quota_of(group, "groupQuota"))
        fits = all(request.get(name, 0) <= limit for quota in quotas for name, limit in quota.items())
        return request if fits else None

    def _apply_past_catalogs(self, job: JobHistory) -> None:
        """Apply the earlier catalogs that a service may have when the job is created.

        Each kind has a watch of its own, so a service may have the kinds as they were at different times.
        """
        now = self._catalog
        first = job.created.at - MAX_REACTION_SECONDS
        recent = [catalog for until, catalog in self._past_catalogs if until >= first]
        versions: list[list[dict[str, Object]]] = []
        for kind in now:
            of_kind = [now[kind]]
            for catalog in recent:
                if catalog[kind] not in of_kind:
                    of_kind.append(catalog[kind])
            versions.append(of_kind)
        for mixture in product(*versions):
            self._catalog = dict(zip(now, mixture, strict=True))
            limits = self.limits_of(job.spec["instanceType"])
            if limits is not None and limits not in job.limits:
                job.limits.append(limits)
            is_feasible = self.request(job.latest) is not None
            job.was_feasible |= is_feasible
            job.was_infeasible |= not is_feasible
        self._catalog = now

    def _update_feasibility(self, job: JobHistory, change: Change, *, since_catalog_change: bool) -> None:
        """Update whether the job is feasible, and since when it waits and is feasible."""
        limits = self.limits_of(job.spec["instanceType"])
        if limits is not None and limits not in job.limits:
            job.limits.append(limits)
        job.is_feasible = self.request(job.latest) is not None
        job.was_feasible |= job.is_feasible
        job.was_infeasible |= not job.is_feasible
        if not (job.is_waiting and job.is_feasible):
            job.waiting_since = None
        elif job.waiting_since is None:
            job.waiting_since, job.since_catalog_change = (change.at, change.revision), since_catalog_change

    # --- usage ---

    def _usage(self, name: str, change: Change) -> Usage:
        group = self.group(name) or {}
        admitted: dict[str, Amounts] = {}
        counted: set[str] = set()
        for job in self.jobs.values():
            if job.spec["groupName"] != name:
                continue
            user = job.spec["userName"]
            for uid in job.pods:
                pod = self.pods.get(uid)
                if pod and uid not in self.ended_pods and not is_gated(pod) and _is_traceable(pod, job):
                    _add(admitted, user, pod_charge(pod))
                    counted.add(uid)
            named = job.status.get("podUID", "")
            is_admitted = not job.gone and job.status["phase"] in ADMITTED_PHASES
            if is_admitted and named not in counted and named not in self.ended_pods:
                _add(admitted, user, admitted_charge(job.latest))
        others: dict[str, Amounts] = {}
        for uid, pod in self.pods.items():
            if uid not in self.ended_pods and not job_of(pod) and not is_gated(pod):
                labels = pod["metadata"].get("labels") or {}
                if labels.get(GROUP_LABEL) == label_value(name):
                    user = labels.get("primehub.io/user", "").removeprefix("escaped-")
                    _add(admitted if uid in self.notebooks else others, user, pod_charge(pod))
        quotas = quota_of(group, "userQuota"), quota_of(group, "groupQuota")
        return Usage(change.at, change.revision, admitted, others, *quotas)


def _is_traceable(pod: Object, job: JobHistory) -> bool:
    """Return whether the services can know the pod's group and user.

    After the job's deletion, only the labels of its pod show them, and a third party may have edited the
    labels (design/consistency.md, Known limits).
    """
    labels = pod["metadata"].get("labels") or {}
    owner = label_value(job.spec["groupName"]), label_value(job.spec["userName"])
    return not job.gone or (labels.get(GROUP_LABEL), labels.get(USER_LABEL)) == owner


def charge_of(limits: Amounts) -> Amounts:
    """Return the limits, with the sum of all kinds of GPUs as `gpu`."""
    gpus = sum(amount for name, amount in limits.items() if name.endswith("/gpu"))
    return {**limits, "gpu": gpus}


def quota_of(group: Any, field_: str) -> Amounts:
    """Return one of a group's quotas."""
    return {name: parse_primehub(name, value) for name, value in (group.get(field_) or {}).items()}


def admitted_charge(job: Object) -> Amounts:
    """Return the charge of the limits in the job's status."""
    return charge_of({name: parse(name, value) for name, value in job["status"]["resources"].items()})


def pod_charge(pod: Object) -> Amounts:
    """Return the charge of a pod's limits."""
    (container,) = pod["spec"]["containers"]
    limits = container.get("resources", {}).get("limits", {})
    return charge_of({name: parse(name, value) for name, value in limits.items()})


def _add(total: dict[str, Amounts], user: str, amounts: Amounts) -> None:
    of_user = total.setdefault(user, {})
    for name, amount in amounts.items():
        of_user[name] = of_user.get(name, 0) + amount

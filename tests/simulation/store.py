"""The store of the simulated API server: objects, revisions, and the history of all changes.

Every change has a revision. The watches and the checker read the history. `kube` simulates the network
between a client and the store. Objects are never changed in place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.simulation.loop import rfc3339, seconds

from phjob_core.errors import ExpiredError, RejectedError
from phjob_core.labels import JOB_UID_LABEL

Object = Mapping[str, Any]

JOB_DEFAULTS = {
    "phase": "Pending", "reason": "Queued", "requeued": 0, "reclaimed": False, "fence": "",
    "observedGeneration": 0, "retried": 0,
}  # fmt: skip
"""The defaults of the CRD's `status`."""
GRACE_SECONDS = 30
"""The default of a pod's terminationGracePeriodSeconds."""
FINISHED_POD_PHASES = ("Succeeded", "Failed")
ORPHAN = "orphan"
"""Kubernetes' finalizer of an object that is deleted without those that it owns."""


CLUSTER = "Kubernetes"
"""The author of changes by controllers and kubelets."""


@dataclass(frozen=True)
class Change:
    """A change of one object."""

    revision: int
    at: float
    plural: str
    gone: bool
    object: Object
    before: Object | None
    author: str = CLUSTER
    """The process or third party that made the change, or `CLUSTER`."""


class Store:
    """The objects of one namespace, and the nodes."""

    def __init__(self, time: Callable[[], float]) -> None:
        """`time` returns the seconds since the beginning of the simulation."""
        self._time = time
        self._objects: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self.changes: list[Change] = []
        self.changes_of: defaultdict[str, list[Change]] = defaultdict(list)
        """The changes of each plural, in the order of their revisions."""
        self.compacted_revision = 0
        """Watches from an earlier revision than this fail with 410 Gone."""
        self.rejected_pods: set[str] = set()
        """The names of pods whose creation a policy rejected, or the server answered with an error."""
        self._author = CLUSTER
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @property
    def revision(self) -> int:
        """Return the latest revision."""
        return len(self.changes)

    @contextmanager
    def acting_as(self, by: str) -> Iterator[None]:
        """Set the author of all changes that are made inside."""
        before, self._author = self._author, by
        try:
            yield
        finally:
            self._author = before

    def all(self, plural: str) -> list[Object]:
        """Return the current objects of a kind."""
        return list(self._objects[plural].values())

    def get(self, plural: str, name: str) -> Object | None:
        """Return the current object; None if there is none."""
        return self._objects[plural].get(name)

    def get_as_of(self, plural: str, name: str, at: float) -> Object | None:
        """Return the object as of that time; None if there was none."""
        of_name = (c for c in reversed(self.changes_of[plural]) if c.object["metadata"]["name"] == name)
        last = next((change for change in of_name if change.at <= at), None)
        return last.object if last and not last.gone else None

    async def wait_for_change(self, plural: str) -> None:
        """Wait for the next change of any object of the kind."""
        event = self._changed[plural]
        await event.wait()

    async def wait_for_removal(self, plural: str, max_seconds: float) -> bool:
        """Wait until an object of the kind is removed. Returns whether that happens within `max_seconds`."""
        seen = len(self.changes_of[plural])
        try:
            async with asyncio.timeout(max_seconds):
                while not any(change.gone for change in self.changes_of[plural][seen:]):
                    await self.wait_for_change(plural)
        except TimeoutError:
            return False
        return True

    def create(self, plural: str, body: Object) -> Object:
        """Create an object; 409 if its name is taken."""
        name = body["metadata"]["name"]
        if name in self._objects[plural]:
            raise RejectedError(409, "AlreadyExists", f"{plural} {name!r} already exists")
        metadata = {
            **body["metadata"],
            "uid": f"{plural}-{self.revision + 1}",
            "creationTimestamp": rfc3339(self._time()),
            "generation": 1,
        }
        new = {**body, "metadata": metadata}
        if plural == "phjobs":
            new["status"] = dict(JOB_DEFAULTS)
        if plural == "phgroups":
            new["status"] = {"fence": ""}
        if plural == "pods":
            new["status"] = {"phase": "Pending"}
        return self._put(plural, new)

    def replace(self, plural: str, name: str, body: Object) -> Object:
        """Replace an object; 409 if it has changed since the revision in `body`, if that has one."""
        old = self._get_existing(plural, name)
        before = old["metadata"]
        if body["metadata"].get("resourceVersion", before["resourceVersion"]) != before["resourceVersion"]:
            raise RejectedError(409, "Conflict", f"{plural} {name!r} has been modified")
        if old.get("type") != body.get("type"):
            raise RejectedError(422, "Invalid", 'type: Invalid value: "...": field is immutable')
        return self._put(plural, {**body, "metadata": {**before, **body["metadata"]}})

    def patch(self, plural: str, name: str, operations: Sequence[Object]) -> Object:
        """Apply a JSON Patch of `test`, `add`, `copy` and `remove`; 422 if a test fails."""
        new: Any = self._get_existing(plural, name)
        for operation in operations:
            source = operation.get("from")
            value = {"value": _value_at(new, source)} if source else {}
            path = [key.replace("~1", "/") for key in operation["path"][1:].split("/")]
            new = _apply(new, {**operation, **value}, path)
        added = {*_finalizers(new)} - {*_finalizers(self._get_existing(plural, name))}
        if added and "deletionTimestamp" in new["metadata"]:
            raise RejectedError(422, "Invalid", f"no new finalizers can be added to {plural} {name!r}")
        written = self._put(plural, new)
        self._remove_finalized(plural, written)
        return written

    def edit(self, plural: str, name: str, **spec: Any) -> None:
        """Change fields of an object's spec, if it exists."""
        old = self.get(plural, name)
        if old is not None:
            metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
            self._put(plural, {**old, "metadata": metadata, "spec": {**old["spec"], **spec}})

    def set_status(self, plural: str, name: str, status: Object) -> None:
        """Replace the status, as a kubelet does."""
        old = self.get(plural, name)
        if old is not None:
            self._put(plural, {**old, "status": status})

    def bind(self, name: str, node: str) -> None:
        """Bind a pod to a node."""
        old = self.get("pods", name)
        if old is not None:
            self._put("pods", {**old, "spec": {**old["spec"], "nodeName": node}})

    def delete(
        self, plural: str, name: str, *, uid: str = "", revision: int | None = None, force: bool = False
    ) -> bool:
        """Delete an object, if it still has the uid and the revision.

        A pod on a node has a grace period, unless the deletion is forced. Returns whether the object is
        deleted, or was gone already.

        Source: pkg/registry/core/pod/strategy.go, CheckGracefulDelete.
        """
        old = self.get(plural, name)
        if old is None:
            return True
        metadata = old["metadata"]
        if (uid and metadata["uid"] != uid) or metadata["resourceVersion"] != str(
            revision or metadata["resourceVersion"]
        ):
            return False
        is_graceful = (
            plural == "pods"
            and old["spec"].get("nodeName")
            and old["status"]["phase"] not in FINISHED_POD_PHASES
        )
        if is_graceful and not force:
            grace = old["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
            self._mark_deleted(plural, old, grace)
        else:
            self.remove(plural, name)
        return True

    def begin_orphaning(self, job: Object) -> None:
        """Delete a job with the finalizer `orphan`, as the API server does for `--cascade=orphan`."""
        metadata = job["metadata"]
        finalizers = [*_finalizers(job), ORPHAN]
        self._mark_deleted("phjobs", {**job, "metadata": {**metadata, "finalizers": finalizers}}, 0)

    def orphan_pod(self, name: str) -> None:
        """Remove a pod's owner reference, as the garbage collector does."""
        self.patch("pods", name, [{"op": "remove", "path": "/metadata/ownerReferences"}])

    def end_orphaning(self, name: str) -> None:
        """Remove the finalizer `orphan` of a job, as the garbage collector does."""
        job = self._get_existing("phjobs", name)
        finalizers = [finalizer for finalizer in _finalizers(job) if finalizer != ORPHAN]
        self.patch("phjobs", name, [{"op": "add", "path": "/metadata/finalizers", "value": finalizers}])

    def remove(self, plural: str, name: str) -> None:
        """Remove an object, as soon as it has no finalizer."""
        old = self._objects[plural][name]
        if _finalizers(old):
            self._mark_deleted(plural, old, 0)
        else:
            self._erase(plural, name)

    def _mark_deleted(self, plural: str, old: Object, grace: int) -> None:
        metadata = old["metadata"]
        if metadata.get("deletionGracePeriodSeconds", grace + 1) <= grace:
            return
        end = self._time() + grace
        generation = metadata["generation"] + ("deletionTimestamp" not in metadata)
        if "deletionTimestamp" in metadata:
            # Like the API server (registry/rest/delete.go, BeforeDelete): never before now.
            requested = seconds(metadata["deletionTimestamp"]) - metadata["deletionGracePeriodSeconds"]
            end = max(self._time(), requested + grace)
        deletion = {"deletionTimestamp": rfc3339(end), "deletionGracePeriodSeconds": grace}
        self._put(plural, {**old, "metadata": {**metadata, **deletion, "generation": generation}})

    def _remove_finalized(self, plural: str, item: Object) -> None:
        """Remove the object if it is deleted and has no finalizer left."""
        metadata = item["metadata"]
        if metadata.get("deletionGracePeriodSeconds") == 0 and not _finalizers(item):
            self._erase(plural, metadata["name"])

    def _erase(self, plural: str, name: str) -> None:
        old = self._objects[plural].pop(name)
        metadata = {**old["metadata"], "resourceVersion": str(self.revision + 1)}
        self._record(plural, {**old, "metadata": metadata}, before=old, gone=True)

    def since(self, plural: str, revision: int) -> list[Change]:
        """Return the changes of the kind after the revision.

        Raises:
            ExpiredError: the revision was compacted.

        """
        if revision < self.compacted_revision:
            raise ExpiredError(f"revision {revision} is too old")
        changes = self.changes_of[plural]
        first = len(changes)
        while first and changes[first - 1].revision > revision:
            first -= 1
        return changes[first:]

    def _get_existing(self, plural: str, name: str) -> Object:
        found = self.get(plural, name)
        if found is None:
            raise RejectedError(404, "NotFound", f"{plural} {name!r} not found")
        return found

    def _put(self, plural: str, new: Object) -> Object:
        name = new["metadata"]["name"]
        old = self._objects[plural].get(name)
        if old is not None and old == new:
            return old
        written = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision + 1)}}
        self._objects[plural][name] = written
        self._record(plural, written, before=old, gone=False)
        return written

    def _record(self, plural: str, item: Object, *, before: Object | None, gone: bool) -> None:
        change = Change(self.revision + 1, self._time(), plural, gone, item, before, self._author)
        self.changes.append(change)
        self.changes_of[plural].append(change)
        event = self._changed.pop(plural, None)
        if event:
            event.set()


def job_of(pod: Object) -> str:
    """Return the uid of the job that a pod was created for; empty for any other pod.

    A third party may have removed the owner reference since.
    """
    uid: str = (pod["metadata"].get("labels") or {}).get(JOB_UID_LABEL, "")
    return uid


def _finalizers(item: Object) -> Sequence[str]:
    return item["metadata"].get("finalizers") or ()


def _value_at(item: Any, path: str) -> Any:
    """Return the value at the path of a JSON Patch; 422 if there is none."""
    for key in path[1:].split("/"):
        if key not in item:
            raise RejectedError(422, "Invalid", f"there is no {path}")
        item = item[key]
    return item


def _apply(item: Any, operation: Object, path: Sequence[str]) -> Any:
    """Return a copy of the item after an operation of a JSON Patch at the path."""
    if path == ["-"] and isinstance(item, list):
        return [*item, operation["value"]]
    key: Any = int(path[0]) if isinstance(item, list) else path[0]
    exists = key < len(item) if isinstance(item, list) else key in item
    if len(path) > 1:
        if not exists:
            raise RejectedError(422, "Invalid", f"there is no {operation['path']}")
        inner = _apply(item[key], operation, path[1:])
    elif operation["op"] == "test":
        found = item[key] if exists else None
        if found != operation["value"]:
            message = f"test of {operation['path']}: is {found!r}, not {operation['value']!r}"
            raise RejectedError(422, "Invalid", message)
        return item
    elif operation["op"] == "remove":
        if not exists:
            raise RejectedError(422, "Invalid", f"there is no {operation['path']}")
        return _without(item, key)
    else:
        inner = operation["value"]
    if isinstance(item, list):
        return [*item[:key], inner, *item[key + 1 :]]
    return {**item, key: inner}


def _without(item: Any, key: Any) -> Any:
    if isinstance(item, list):
        return [*item[:key], *item[key + 1 :]]
    return {name: value for name, value in item.items() if name != key}

"""An API server's store, as its clients see it: objects, revisions, what a write does, and all that happened.

Every change has a revision, and the history of all changes is kept: watches and the checker read it.
What a request may suffer on its way is `kube`'s part. Objects are never changed in place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation.loop import rfc3339

from shared.errors import GoneError, RefusedError

Object = Mapping[str, Any]

JOB_DEFAULTS = {"phase": "Pending", "reason": "Queued", "requeued": 0, "reclaimed": False, "fence": ""}
"""The CRD's, for `status`."""
GRACE_SECONDS = 30
"""terminationGracePeriodSeconds, where a pod says nothing."""


@dataclass(frozen=True)
class Change:
    """One object at one revision."""

    revision: int
    at: float
    plural: str
    gone: bool
    object: Object
    before: Object | None


class Store:
    """The objects of one namespace and the nodes, by plural and name."""

    def __init__(self, time: Callable[[], float]) -> None:
        """`time` is seconds since the simulation began."""
        self._time = time
        self._objects: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        self.changes: list[Change] = []
        self.of: defaultdict[str, list[Change]] = defaultdict(list)
        """The changes of each plural."""
        self.compacted = 0
        """Watches from before this revision are told that it is gone."""
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @property
    def revision(self) -> int:
        """The latest."""
        return len(self.changes)

    def all(self, plural: str) -> list[Object]:
        """Every object of the kind now."""
        return list(self._objects[plural].values())

    def get(self, plural: str, name: str) -> Object | None:
        """The object now, or None."""
        return self._objects[plural].get(name)

    async def changed(self, plural: str) -> None:
        """Return when something of the kind has changed."""
        event = self._changed[plural]
        await event.wait()

    async def removed(self, plural: str, patience: float) -> bool:
        """Whether something of the kind ceased to be in the next so many seconds; at once, when it does."""
        seen = len(self.of[plural])
        try:
            async with asyncio.timeout(patience):
                while not any(change.gone for change in self.of[plural][seen:]):
                    await self.changed(plural)
        except TimeoutError:
            return False
        return True

    def create(self, plural: str, body: Object) -> Object:
        """Create it; 409 if the name is taken."""
        name = body["metadata"]["name"]
        if name in self._objects[plural]:
            raise RefusedError(409, "AlreadyExists", f"{plural} {name!r} already exists")
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
        """Write all of it; 409 if it has changed since the revision that it carries."""
        old = self._existing(plural, name)
        if old["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise RefusedError(409, "Conflict", f"{plural} {name!r} has been modified")
        return self._put(plural, body)

    def patch(self, plural: str, name: str, operations: Sequence[Object]) -> Object:
        """Apply a JSON Patch of `test` and `add`; 422 if a test fails."""
        new: dict[str, Any] = dict(self._existing(plural, name))
        for operation in operations:
            parent, _, field = operation["path"][1:].rpartition("/")
            if operation["op"] == "test":
                found = new[parent].get(field)
                if found != operation["value"]:
                    why = f"test of {operation['path']}: is {found!r}, not {operation['value']!r}"
                    raise RefusedError(422, "Invalid", why)
            elif parent:
                new[parent] = {**new[parent], field: operation["value"]}
            else:
                new[field] = operation["value"]
        return self._put(plural, new)

    def edit(self, plural: str, name: str, **spec: Any) -> None:
        """Change the spec, as a user does."""
        old = self.get(plural, name)
        if old is not None:
            metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
            self._put(plural, {**old, "metadata": metadata, "spec": {**old["spec"], **spec}})

    def status(self, plural: str, name: str, status: Object) -> None:
        """Replace the status, as a kubelet does."""
        old = self.get(plural, name)
        if old is not None:
            self._put(plural, {**old, "status": status})

    def bind(self, name: str, node: str) -> None:
        """Give a pod its node."""
        old = self.get("pods", name)
        if old is not None:
            self._put("pods", {**old, "spec": {**old["spec"], "nodeName": node}})

    def delete(
        self, plural: str, name: str, *, uid: str = "", revision: int | None = None, force: bool = False
    ) -> None:
        """Delete it if it still is that; a pod that has a node gets time to end, unless it is forced."""
        old = self.get(plural, name)
        if old is None or (uid and old["metadata"]["uid"] != uid):
            return
        if revision is not None and old["metadata"]["resourceVersion"] != str(revision):
            return
        if plural == "pods" and not force and old["spec"].get("nodeName"):
            if "deletionTimestamp" not in old["metadata"]:
                grace = old["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
                deletion = {
                    "deletionTimestamp": rfc3339(self._time() + grace),
                    "deletionGracePeriodSeconds": grace,
                }
                self._put(plural, {**old, "metadata": {**old["metadata"], **deletion}})
            return
        self.remove(plural, name)

    def remove(self, plural: str, name: str) -> None:
        """Let it be no more."""
        old = self._objects[plural].pop(name)
        metadata = {**old["metadata"], "resourceVersion": str(self.revision + 1)}
        self._note(plural, {**old, "metadata": metadata}, before=old, gone=True)

    def since(self, plural: str, revision: int) -> list[Change]:
        """What has happened to the kind after the revision; GoneError if nobody knows any more."""
        if revision < self.compacted:
            raise GoneError(f"revision {revision} is too old")
        changes = self.of[plural]
        first = len(changes)
        while first and changes[first - 1].revision > revision:
            first -= 1
        return changes[first:]

    def _existing(self, plural: str, name: str) -> Object:
        found = self.get(plural, name)
        if found is None:
            raise RefusedError(404, "NotFound", f"{plural} {name!r} not found")
        return found

    def _put(self, plural: str, new: Object) -> Object:
        name = new["metadata"]["name"]
        old = self._objects[plural].get(name)
        if old is not None and old == new:
            return old
        written = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.revision + 1)}}
        self._objects[plural][name] = written
        self._note(plural, written, before=old, gone=False)
        return written

    def _note(self, plural: str, item: Object, *, before: Object | None, gone: bool) -> None:
        change = Change(self.revision + 1, self._time(), plural, gone, item, before)
        self.changes.append(change)
        self.of[plural].append(change)
        event = self._changed.pop(plural, None)
        if event:
            event.set()

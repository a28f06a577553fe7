"""What the API server says happened: every revision of every job and pod, in their order.

A `History` records by watches of its own, beside the product's. Whether what happened was right is
judged by `promises`.
"""

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.api import Api, ApiError, Watch
from tests.support.waiting import eventually

Object = dict[str, Any]

KINDS = {"PhJob": "", "Pod": "primehub.io/group"}
"""What is recorded, by label selector."""


@dataclass(frozen=True)
class Event:
    """One object at one revision."""

    revision: int
    kind: str
    gone: bool
    """Whether this is its end."""
    object: Object
    seen: datetime

    @property
    def name(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The object's."""
        return str(self.object["metadata"]["uid"])

    @property
    def phase(self) -> str:
        """The job's or the pod's."""
        return str(self.object.get("status", {}).get("phase", ""))

    @property
    def group(self) -> str:
        """The job's group, or a pod's label value."""
        if self.kind == "PhJob":
            return str(self.object["spec"]["groupName"])
        return str(self.object["metadata"]["labels"]["primehub.io/group"])

    def line(self) -> str:
        """For a person."""
        status = self.object.get("status", {})
        fields = {name: status.get(name) for name in ("reason", "message", "fence", "requeued", "reclaimed")}
        if self.kind == "Pod":
            fields = {
                "uid": self.uid[:8],
                "fence": self.object["metadata"].get("annotations", {}).get("primehub.io/fence"),
                "deleting": "deletionTimestamp" in self.object["metadata"],
            }
        said = " ".join(f"{name}={value}" for name, value in fields.items() if value)
        phase = "gone" if self.gone else self.phase
        return f"{self.seen:%H:%M:%S.%f} r{self.revision} {self.kind} {self.name} {phase} {said}"


class History:
    """Records from its start to its end; as a context manager, inside."""

    def __init__(self, api: Api) -> None:
        """Of the API's namespace."""
        self._api = api
        self._events: list[Event] = []
        self._latest: dict[tuple[str, str], Event] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watches: dict[str, Watch] = {}
        self._threads: list[threading.Thread] = []
        self._since: dict[str, int] = {}
        self.broken = ""
        """Why it is not complete, if it isn't."""

    def __enter__(self) -> Self:
        for kind, selector in KINDS.items():
            revision = self._api.list(kind, limit="1")["metadata"]["resourceVersion"]
            self._since[kind] = int(revision)
            thread = threading.Thread(target=self._record, args=(kind, selector, revision), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._lock:
            for watch in self._watches.values():
                watch.end()
        for thread in self._threads:
            thread.join()

    def events(self) -> list[Event]:
        """All that was recorded, in the order in which it happened: etcd counts all kinds together."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.revision)

    def complete(self) -> list[Event]:
        """All that has happened up to now."""
        for kind, selector in KINDS.items():
            listing = self._api.list(kind, labelSelector=selector)
            eventually(
                lambda kind=kind, listing=listing: self._covers(kind, listing),  # type: ignore[misc]
                f"every {kind} of a LIST is in the history",
            )
        return self.events()

    def last(self, kind: str, name: str) -> Event | None:
        """The newest revision of the object of that name, be it its end."""
        with self._lock:
            return self._latest.get((kind, name))

    def latest(self, kind: str, name: str) -> Event | None:
        """The newest revision of the object of that name; None if there is none, or no more."""
        event = self.last(kind, name)
        return None if event is None or event.gone else event

    def all(self, kind: str) -> list[Event]:
        """The newest revision of every object that is there."""
        with self._lock:
            return [event for (of, _), event in self._latest.items() if of == kind and not event.gone]

    def _covers(self, kind: str, listing: Object) -> bool:
        """Whether the record goes at least as far as the listing."""
        assert not self.broken, self.broken
        upto = int(listing["metadata"]["resourceVersion"])
        there = {
            item["metadata"]["uid"]: int(item["metadata"]["resourceVersion"]) for item in listing["items"]
        }
        with self._lock:
            recorded = {event.uid: event for (of, _), event in self._latest.items() if of == kind}
        told = all(
            uid in recorded and recorded[uid].revision >= revision
            for uid, revision in there.items()
            if revision > self._since[kind]
        )
        return told and all(
            event.gone or uid in there or event.revision > upto for uid, event in recorded.items()
        )

    def _record(self, kind: str, selector: str, revision: str) -> None:
        try:
            for event in self._watch(kind, selector, revision):
                with self._lock:
                    self._events.append(event)
                    self._latest[kind, event.name] = event
        except Exception as error:
            if not self._stopping.is_set():
                self.broken = f"the record of {kind} broke off: {error!r}"

    def _watch(self, kind: str, selector: str, revision: str) -> Iterator[Event]:
        while not self._stopping.is_set():
            with self._api.watch(kind, revision, labelSelector=selector) as watch:
                with self._lock:
                    self._watches[kind] = watch
                try:
                    for answer in watch:
                        if answer["type"] == "ERROR":
                            raise ApiError(answer["object"]["code"], answer["object"]["message"])
                        revision = answer["object"]["metadata"]["resourceVersion"]
                        gone = answer["type"] == "DELETED"
                        yield Event(int(revision), kind, gone, answer["object"], datetime.now(UTC))
                except (OSError, HTTPException):
                    continue  # The connection ended; the revision says where to go on.


STORED = {"PhJob": "/registry/primehub.io/phjobs/{}/", "Pod": "/registry/pods/{}/"}
"""Where the API server keeps the objects of a kind, by namespace."""


class StoredHistory(History):
    """The same as the API server's store tells it: complete, whatever happens to the API server itself.

    An object's resourceVersion is etcd's revision, so this is what the API server's watches say. It has to
    store pods as JSON (`--storage-media-type`).
    """

    def __init__(self, api: Api, etcd: str) -> None:
        """`etcd` is the URL of its clients."""
        super().__init__(api)
        self._etcd = urlsplit(etcd)

    def _watch(self, kind: str, selector: str, revision: str) -> Iterator[Event]:
        first, since = STORED[kind].format(self._api.namespace), int(revision) + 1
        behind = first[:-1] + chr(ord("/") + 1)
        wanted = {"key": _encoded(first), "range_end": _encoded(behind), "start_revision": since}
        connection = HTTPConnection(self._etcd.hostname or "", self._etcd.port)
        connection.request("POST", "/v3/watch", json.dumps({"create_request": {**wanted, "prev_kv": True}}))
        with Watch(connection, connection.getresponse()) as watch:
            with self._lock:
                self._watches[kind] = watch
            for answer in watch:
                for change in answer["result"].get("events", ()):
                    event = _stored(kind, change)
                    if not selector or selector in event.object["metadata"].get("labels", {}):
                        yield event


def _encoded(key: str) -> str:
    return b64encode(key.encode()).decode()


def _stored(kind: str, change: Object) -> Event:
    """A change of etcd's, as the API server would tell it."""
    gone = change.get("type") == "DELETE"
    item = json.loads(b64decode(change["prev_kv" if gone else "kv"]["value"]))
    revision = change["kv"]["mod_revision"]
    item["metadata"]["resourceVersion"] = revision
    if kind == "PhJob":  # The CRD's defaults come with every answer, and are not stored before a write.
        item["status"] = {"phase": "Pending", "reason": "Queued", "requeued": 0, **item.get("status", {})}
    return Event(int(revision), kind, gone, item, datetime.now(UTC))

"""A history: every revision of every job and pod that the API server reports, in their order.

A `History` records with watches of its own, independently of the product's watches. `promises` judges
whether a history is correct.
"""

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.api import Api, ApiError, Watch
from tests.support.waiting import eventually

Object = dict[str, Any]

RECORDED_KINDS = {"PhJob": "", "Pod": "primehub.io/group"}
"""The label selector of each kind that is recorded."""


@dataclass(frozen=True)
class WatchEvent:
    """One object at one revision."""

    revision: int
    kind: str
    gone: bool
    """True if the object was deleted at this revision."""
    object: Object
    observed_at: datetime

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.object["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The object's uid."""
        return str(self.object["metadata"]["uid"])

    @property
    def phase(self) -> str:
        """The phase of the job or the pod."""
        return str(self.object.get("status", {}).get("phase", ""))

    @property
    def group(self) -> str:
        """The name of the job's group, or the label value of the pod's group."""
        if self.kind == "PhJob":
            return str(self.object["spec"]["groupName"])
        return str(self.object["metadata"].get("labels", {}).get("primehub.io/group", ""))

    def describe(self) -> str:
        """Return the event as a line of text."""
        status = self.object.get("status", {})
        fields = {name: status.get(name) for name in ("reason", "message", "fence", "requeued", "reclaimed")}
        if self.kind == "Pod":
            fields = {
                "uid": self.uid[:8],
                "fence": self.object["metadata"].get("annotations", {}).get("primehub.io/fence"),
                "deleting": "deletionTimestamp" in self.object["metadata"],
            }
        details = " ".join(f"{name}={value}" for name, value in fields.items() if value)
        phase = "gone" if self.gone else self.phase
        return f"{self.observed_at:%H:%M:%S.%f} r{self.revision} {self.kind} {self.name} {phase} {details}"


class History:
    """The recorded events of a namespace. It records as long as its context lasts."""

    def __init__(self, api: Api) -> None:
        """Prepare to record the namespace of `api`."""
        self._api = api
        self._events: list[WatchEvent] = []
        self._last_events: dict[tuple[str, str], WatchEvent] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watches: dict[str, Watch] = {}
        self._threads: list[threading.Thread] = []
        self._start_revisions: dict[str, int] = {}
        self.incomplete_reason = ""
        """Why events are missing, or an empty string."""

    def __enter__(self) -> Self:
        for kind, selector in RECORDED_KINDS.items():
            revision = self._api.list(kind, limit="1")["metadata"]["resourceVersion"]
            self._start_revisions[kind] = int(revision)
            thread = threading.Thread(target=self._record, args=(kind, selector, revision), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with self._lock:
            for watch in self._watches.values():
                watch.stop()
        for thread in self._threads:
            thread.join()

    def events(self) -> list[WatchEvent]:
        """Return all recorded events by revision. All kinds share etcd's revisions."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.revision)

    def complete_events(self) -> list[WatchEvent]:
        """Wait until everything up to now is recorded. Returns all events by revision."""
        for kind, selector in RECORDED_KINDS.items():
            listing = self._api.list(kind, labelSelector=selector)
            eventually(
                partial(self._covers, kind, listing),
                f"every {kind} of a LIST is in the history",
            )
        return self.events()

    def last_event(self, kind: str, name: str) -> WatchEvent | None:
        """Return the last event of the object of this name, which may be its deletion."""
        with self._lock:
            return self._last_events.get((kind, name))

    def current(self, kind: str, name: str) -> WatchEvent | None:
        """Return the last event of this object, or None if it does not exist now."""
        event = self.last_event(kind, name)
        return None if event is None or event.gone else event

    def all_current(self, kind: str) -> list[WatchEvent]:
        """Return the last event of every object that exists now."""
        with self._lock:
            return [event for (of, _), event in self._last_events.items() if of == kind and not event.gone]

    def _covers(self, kind: str, listing: Object) -> bool:
        """Return whether the recorded events are at least as new as the listing."""
        assert not self.incomplete_reason, self.incomplete_reason
        list_revision = int(listing["metadata"]["resourceVersion"])
        listed = {
            item["metadata"]["uid"]: int(item["metadata"]["resourceVersion"]) for item in listing["items"]
        }
        with self._lock:
            recorded = {event.uid: event for (of, _), event in self._last_events.items() if of == kind}
        has_all_listed = all(
            uid in recorded and recorded[uid].revision >= revision
            for uid, revision in listed.items()
            if revision > self._start_revisions[kind]
        )
        return has_all_listed and all(
            event.gone or uid in listed or event.revision > list_revision for uid, event in recorded.items()
        )

    def _record(self, kind: str, selector: str, revision: str) -> None:
        try:
            for event in self._watch(kind, selector, revision):
                with self._lock:
                    self._events.append(event)
                    self._last_events[kind, event.name] = event
        except Exception as error:
            if not self._stopping.is_set():
                self.incomplete_reason = f"the recording of {kind} ended early: {error!r}"

    def _watch(self, kind: str, selector: str, revision: str) -> Iterator[WatchEvent]:
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
                        yield WatchEvent(int(revision), kind, gone, answer["object"], datetime.now(UTC))
                except (OSError, HTTPException):
                    continue  # The connection has ended. The next watch starts at the last revision.


ETCD_PREFIXES = {"PhJob": "/registry/primehub.io/phjobs/{}/", "Pod": "/registry/pods/{}/"}
"""The prefix of a kind's keys in etcd, with a placeholder for the namespace."""


class EtcdHistory(History):
    """A history read from etcd, so that it is complete even if the API server fails.

    An object's resourceVersion is etcd's revision, so the events equal those of the API server's watches.
    The API server has to store pods as JSON (`--storage-media-type`).
    """

    def __init__(self, api: Api, etcd: str) -> None:
        """Prepare to record the namespace of `api` from the etcd at this client URL."""
        super().__init__(api)
        self._etcd = urlsplit(etcd)

    def _watch(self, kind: str, selector: str, revision: str) -> Iterator[WatchEvent]:
        prefix, start = ETCD_PREFIXES[kind].format(self._api.namespace), int(revision) + 1
        range_end = prefix[:-1] + chr(ord("/") + 1)
        request = {"key": _encoded(prefix), "range_end": _encoded(range_end), "start_revision": start}
        connection = HTTPConnection(self._etcd.hostname or "", self._etcd.port)
        connection.request("POST", "/v3/watch", json.dumps({"create_request": {**request, "prev_kv": True}}))
        with Watch(connection, connection.getresponse()) as watch:
            with self._lock:
                self._watches[kind] = watch
            for answer in watch:
                for change in answer["result"].get("events", ()):
                    event = _from_etcd(kind, change)
                    if not selector or selector in event.object["metadata"].get("labels", {}):
                        yield event


def _encoded(key: str) -> str:
    return b64encode(key.encode()).decode()


def _from_etcd(kind: str, change: Object) -> WatchEvent:
    """Convert a change in etcd into the event that a watch would report."""
    gone = change.get("type") == "DELETE"
    item = json.loads(b64decode(change["prev_kv" if gone else "kv"]["value"]))
    revision = change["kv"]["mod_revision"]
    item["metadata"]["resourceVersion"] = revision
    if kind == "PhJob":  # The API server adds the CRD's defaults to answers, but stores them only on writes.
        item["status"] = {"phase": "Pending", "reason": "Queued", "requeued": 0, **item.get("status", {})}
    return WatchEvent(int(revision), kind, gone, item, datetime.now(UTC))

"""The PhJobs in the etcd of a local stack, for what would take too long through the API server."""

import json
import string
import urllib.request
from base64 import b64encode
from typing import Any

from tests.benchmarks.client import LoadClient
from tests.benchmarks.history import copy_transactions, read_etcd
from tests.support.cluster import NAMESPACE
from tests.support.history import ETCD_PREFIXES

Object = dict[str, Any]

DELETE_BATCH_OBJECTS = 1000
NAME_CHARACTERS = f"{string.ascii_lowercase}{string.digits}-."
"""The characters of an object's name."""
REQUEST_TIMEOUT_SECONDS = 300


class Etcd:
    """An etcd whose objects are those of one namespace."""

    def __init__(self, url: str) -> None:
        """Use the etcd at this client URL."""
        self._url = url

    def count(self, kind: str, prefix: str) -> int:
        """Return how many objects of a kind have names with this prefix."""
        return int(self._call("range", {**_all(kind, prefix), "count_only": True}).get("count", 0))

    def delete(self, kind: str, prefix: str) -> None:
        """Delete all objects of a kind whose names have this prefix, also those with finalizers.

        A request deletes a limited number, because all its deletions are one message of a watch.
        """
        count = self.count(kind, prefix)
        if count > DELETE_BATCH_OBJECTS:
            for character in NAME_CHARACTERS:
                self.delete(kind, prefix + character)
        elif count:
            self._call("deleterange", _all(kind, prefix))

    def copy_job(self, name: str, count: int, change: Object) -> None:
        """Store copies of a job, `<name>-0` and so on, with changed parts of its metadata and status."""
        job = json.loads(read_etcd(self._url, _key("PhJob", name)))
        for part, fields in change.items():
            job[part] |= fields
        LoadClient(self._url).send(copy_transactions(json.dumps(job).encode(), _key("PhJob"), count))

    def _call(self, method: str, body: Object) -> Any:
        request = urllib.request.Request(f"{self._url}/v3/kv/{method}", json.dumps(body).encode())  # noqa: S310 - loopback
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
            return json.loads(response.read())


def _key(kind: str, name: str = "") -> str:
    """Return the key of an object, or the prefix of the keys of its kind."""
    return ETCD_PREFIXES[kind].format(NAMESPACE) + name


def _all(kind: str, prefix: str) -> Object:
    """Return the range of the keys of all objects whose names have this prefix."""
    key = _key(kind, prefix)
    end = key[:-1] + chr(ord(key[-1]) + 1)
    return {
        field: b64encode(text.encode()).decode() for field, text in {"key": key, "range_end": end}.items()
    }

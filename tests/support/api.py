"""A small, synchronous client of the Kubernetes API.

It shares no code with the product, because the tests prove from its answers what the services did.
"""

import http.client
import json
import os
import socket
import ssl
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import yaml

Object = dict[str, Any]

COLLECTION_PATHS = {
    "PhJob": "apis/primehub.io/v1alpha1/{}/phjobs",
    "PhGroup": "apis/primehub.io/v1alpha1/{}/phgroups",
    "InstanceType": "apis/primehub.io/v1alpha1/{}/instancetypes",
    "Image": "apis/primehub.io/v1alpha1/{}/images",
    "Dataset": "apis/primehub.io/v1alpha1/{}/datasets",
    "Pod": "api/v1/{}/pods",
    "Event": "api/v1/{}/events",
    "Node": "api/v1/nodes",
    "ConfigMap": "api/v1/{}/configmaps",
    "Lease": "apis/coordination.k8s.io/v1/{}/leases",
}
"""The path of each kind's collection, with a placeholder for the namespace."""
PHJOB_KINDS = ("PhJob", "PhGroup", "InstanceType", "Image", "Dataset")
DELETE_BATCH_OBJECTS = 1000
"""The number of objects that one request deletes at most, so that it ends in time."""
REQUEST_TIMEOUT_SECONDS = 60.0


class ApiError(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One namespace of a cluster."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        """Read the kubeconfig, without a request."""
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        address = urlsplit(cluster["server"])
        self.host, self.port = address.hostname or "", address.port or 443
        self.namespace = namespace
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        data = cluster.get("certificate-authority-data")
        self._tls = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"), cadata=b64decode(data).decode() if data else None
        )
        if "client-certificate" in user:
            self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def list(self, kind: str, **query: str) -> Object:
        """Return the collection, with its revision."""
        return self._call("GET", self._path(kind, query=query))

    def serves_kind(self, kind: str) -> bool:
        """Return whether the API server lists the kind. A new CRD is not served at once."""
        try:
            self.list(kind)
        except ApiError:
            return False
        return True

    def get(self, kind: str, name: str) -> Object | None:
        """Return the object, or None if it does not exist."""
        try:
            return self._call("GET", self._path(kind, name))
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def create(self, manifest: Object) -> Object:
        """Create the object in this namespace. Returns it as stored."""
        return self._call("POST", self._path(manifest["kind"]), manifest)

    def create_subresource(self, kind: str, name: str, subresource: str, manifest: Object) -> Object:
        """Create a subresource of an object, such as an eviction."""
        return self._call("POST", f"{self._path(kind, name)}/{subresource}", manifest)

    def merge_patch(self, kind: str, name: str, change: Object, *, subresource: str = "") -> Object:
        """Change the object by a merge patch. Returns it as stored."""
        path = self._path(kind, name) + (f"/{subresource}" if subresource else "")
        return self._call("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: str, name: str, **query: str) -> None:
        """Delete the object, if it exists."""
        try:
            self._call("DELETE", self._path(kind, name, query))
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def delete_all(self, kind: str, **query: str) -> None:
        """Delete all objects of the kind that the query selects, in batches."""
        path = self._path(kind, query={**query, "limit": str(DELETE_BATCH_OBJECTS)})
        while len(self._call("DELETE", path)["items"]) >= DELETE_BATCH_OBJECTS:
            pass

    def create_namespace(self) -> None:
        """Create this namespace."""
        self._call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def delete_namespace(self) -> None:
        """Request the deletion of this namespace, without waiting for its end."""
        self._call("DELETE", f"/api/v1/namespaces/{self.namespace}")

    def watch(self, kind: str, revision: str, **query: str) -> "Watch":
        """Start a watch of all changes after the revision."""
        query |= {"watch": "true", "resourceVersion": revision}
        connection = self._connect(timeout=None)
        connection.request("GET", self._path(kind, query=query), headers=self._headers)
        return Watch(connection, connection.getresponse())

    def _path(self, kind: str, name: str = "", query: dict[str, str] | None = None) -> str:
        path = "/" + COLLECTION_PATHS[kind].format(f"namespaces/{self.namespace}")
        return path + (f"/{name}" if name else "") + (f"?{urlencode(query)}" if query else "")

    def _connect(self, timeout: float | None = REQUEST_TIMEOUT_SECONDS) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, context=self._tls, timeout=timeout)

    def _call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Object:
        connection = self._connect()
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {**self._headers, "Content-Type": content})
            response = connection.getresponse()
            answer: Object = json.loads(response.read())
            if not 200 <= response.status < 300:
                raise ApiError(response.status, answer.get("message", ""))
            return answer
        finally:
            connection.close()


class Watch:
    """A running watch. `stop` from another thread ends its iteration."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        # A descriptor of its own. Without it, `stop` would touch the TLS state of the reading thread.
        self._handle = socket.socket(fileno=os.dup(connection.sock.fileno()))

    def __iter__(self) -> Iterator[Object]:
        """Yield each event as the API server sends it."""
        if self._response.status != http.HTTPStatus.OK:
            raise ApiError(self._response.status, self._response.read().decode())
        while line := self._response.readline():
            yield json.loads(line)

    def stop(self) -> None:
        """Shut the connection down."""
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()
        self._response.close()
        self._connection.close()

"""Connects to the API server of the user's kubeconfig.

The usual entries of a kubeconfig (certificates, tokens) are read here. All others (exec plugins, identity
providers, proxies) are left to kubernetes_asyncio, whose import takes a second or two. `UserKube` adds the
requests that no service needs to `phjob_kube.http`.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from phjob_cli.errors import CliError, Exit
from phjob_core.api import Object
from phjob_core.errors import NotAuthorizedError, PhJobError
from phjob_core.resource import Resource
from phjob_kube import config as kube_config
from phjob_kube.http import HttpKube, Server, parse_answer, rejection

DEFAULT_NAMESPACE = "hub"
"""PrimeHub's namespace. Applies if neither the command line nor the context names one."""
MAX_CONNECTIONS = 32
"""Connections to the API server that are open at the same time."""

_CLUSTER_KEYS = {
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
}
_USER_KEYS = {
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
}
_REVIEWS = Resource("selfsubjectreviews", "authentication.k8s.io", "v1", namespaced=False)


@dataclass(frozen=True)
class ConnectionOptions:
    """Cluster, namespace and user of a command line; for None, the kubeconfig decides."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    user: str | None = None


class Caller(NamedTuple):
    """The user of the command line."""

    name: str
    uid: str = ""
    """Its id; empty if that is unknown."""


class UserKube(HttpKube):
    """The client of the API server for a user at a terminal."""

    page_objects = 2000  # A user waits for the answer, so there are fewer and larger pages than in a service.

    def _failure(self, status: int, content: bytes | bytearray, method: str = "GET") -> PhJobError:
        """Return the error that an unsuccessful answer means.

        A service repeats a request that it is not authorized for; for a user it is rejected.
        """
        error = super()._failure(status, content, method)
        return rejection(status, content) if isinstance(error, NotAuthorizedError) else error

    async def whoami(self) -> Caller:
        """Return the user as the API server knows it."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        info = (await self.create(_REVIEWS, review))["status"]["userInfo"]
        return Caller(str(info.get("username", "")), str(info.get("uid", "")))

    async def create_dry_run(self, resource: Resource, body: Object) -> Object:
        """Validate an object without creating it. Returns it as it would be created.

        Raises:
            RejectedError: The API server would reject the object.

        """
        return parse_answer(await self._request("POST", resource, query={"dryRun": "All"}, body=body))


@asynccontextmanager
async def connect(options: ConnectionOptions) -> AsyncIterator[UserKube]:
    """Connect to the API server of the user's kubeconfig.

    Raises:
        CliError: The kubeconfig is missing or not valid.

    """
    path = options.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    config = _read(path)
    cluster, user, namespace = _select(config, options.context, path)
    namespace = options.namespace or namespace or DEFAULT_NAMESPACE
    if set(cluster) <= _CLUSTER_KEYS and set(user) <= _USER_KEYS:
        async with _open_server(cluster, user, _folder(path)) as server:
            yield UserKube(server, namespace)
    else:
        async with kube_config.connect(Path(path), namespace, context=options.context) as kube:
            yield UserKube(kube.server, namespace)


def _read(path: str) -> dict[str, Any]:
    """Return the kubeconfig, merged from several files (`a:b`) as by kubectl.

    Of entries with the same name, the first counts.
    """
    files = [file for part in path.split(os.pathsep) if part and (file := Path(part).expanduser()).is_file()]
    if not files:
        msg = f"no kubeconfig at {path}: set --kubeconfig or KUBECONFIG"
        raise CliError(msg, Exit.UNREACHABLE)
    merged: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            msg = f"kubeconfig {file} cannot be read: {str(error).splitlines()[0]}"
            raise CliError(msg, Exit.USAGE) from error
        if not isinstance(content, dict):
            msg = f"{file} is not a kubeconfig"
            raise CliError(msg, Exit.USAGE)
        for key in ("clusters", "users", "contexts"):
            merged.setdefault(key, []).extend(content.get(key) or ())
        merged.setdefault("current-context", content.get("current-context"))
    return merged


def _select(
    config: Mapping[str, Any], context: str | None, path: str
) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """Return the cluster, the user and the namespace of the context."""
    name = context or config.get("current-context")
    if not name:
        msg = f"kubeconfig {path} has no current context: choose one with --context"
        raise CliError(msg, Exit.USAGE)
    selected = _entry(config["contexts"], name, "context", path)
    cluster = _entry(config["clusters"], selected.get("cluster"), "cluster", path)
    user = _entry(config["users"], selected["user"], "user", path) if selected.get("user") else {}
    if not cluster.get("server"):
        msg = f"kubeconfig {path}: cluster {selected.get('cluster')!r} has no server"
        raise CliError(msg, Exit.USAGE)
    return cluster, user, selected.get("namespace") or ""


def _entry(entries: Sequence[Any], name: Any, kind: str, path: str) -> Mapping[str, Any]:
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry.get(kind) or {}
    msg = f"kubeconfig {path} has no {kind} {name!r}"
    raise CliError(msg, Exit.USAGE)


def _folder(path: str) -> Path:
    """Return the folder to which relative paths in the kubeconfig refer."""
    return Path(path.partition(os.pathsep)[0]).expanduser().resolve().parent


@asynccontextmanager
async def _open_server(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path
) -> AsyncIterator[Server]:
    try:
        tls = _tls(cluster, user, folder)
        token = user.get("token") or (
            (folder / user["tokenFile"]).read_text().strip() if user.get("tokenFile") else ""
        )
    except (OSError, ValueError) as error:  # An ssl.SSLError is an OSError.
        msg = f"the kubeconfig's certificates or token cannot be used: {error}"
        raise CliError(msg, Exit.USAGE) from error

    async def sign(headers: dict[str, str]) -> None:
        if token:
            headers["Authorization"] = f"Bearer {token}"

    connector = aiohttp.TCPConnector(ssl=tls, limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, trust_env=True) as session:
        yield Server(str(cluster["server"]).rstrip("/"), session, sign)


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority")
    data = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=str(folder / authority) if authority and not data else None,
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    certificate, key = (_read_credential(user, f"client-{part}", folder) for part in ("certificate", "key"))
    if certificate and key:
        with tempfile.TemporaryDirectory() as private:  # OpenSSL reads a key from a file only.
            certificate_file, key_file = Path(private) / "certificate", Path(private) / "key"
            certificate_file.write_bytes(certificate)
            key_file.write_bytes(key)
            tls.load_cert_chain(certificate_file, key_file)
    return tls


def _read_credential(user: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """Return a credential, from the entry or its file; empty if there is none."""
    if data := user.get(f"{key}-data"):
        return base64.b64decode(data)
    return (folder / user[key]).read_bytes() if user.get(key) else b""

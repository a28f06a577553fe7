"""The way to the API server with the user's own kubeconfig: where it is, who asks, in which namespace.

The usual entries of a kubeconfig (certificates, tokens) are read here; whatever else it may hold (exec
plugins, identity providers, proxies) is kubernetes_asyncio's business, whose import alone takes a second
or two. Beside `shared.kube` it asks a few things that no service needs.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from kubectl_phjob.errors import CliError, Exit
from shared import kube
from shared.kube import HttpKube, Object, Resource, Server

DEFAULT_NAMESPACE = "hub"
"""PrimeHub's, where the kubeconfig's context names none."""
FOLLOW_SILENCE = 3600
"""Seconds without a line after which a log that is followed counts as broken."""

_CLUSTER = {"server", "certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"}
_USER = {
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
}
_REVIEWS = Resource("selfsubjectreviews", "authentication.k8s.io", "v1", namespaced=False)


@dataclass(frozen=True)
class Choice:
    """What the command line says about cluster, namespace and user; None: the kubeconfig decides."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    user: str | None = None


class UserKube(HttpKube):
    """The API, as a user at a terminal asks it."""

    page = 2000  # Somebody waits: fewer and longer answers than a service asks for.

    async def whoami(self) -> str:
        """The user's name, by the API server's own word."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.create(_REVIEWS, review)
        return str(answer["status"]["userInfo"].get("username", ""))

    async def try_out(self, resource: Resource, body: Object) -> Object:
        """The object as it would be created, without creating it; refused as the real one would be."""
        return await self._call("POST", resource, query={"dryRun": "All"}, body=body)

    async def follow(self, pod: str, container: str) -> AsyncIterator[bytes]:
        """What the container writes, until it ends."""
        async for piece in self._log(pod, {"container": container, "follow": "true"}, FOLLOW_SILENCE):
            yield piece


@asynccontextmanager
async def connect(choice: Choice) -> AsyncIterator[UserKube]:
    """The API server of the user's kubeconfig.

    Raises:
        CliError: there is no kubeconfig, or it does not say where to go.

    """
    where = choice.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    config = _read(where)
    cluster, user, namespace = _chosen(config, choice.context, where)
    namespace = choice.namespace or namespace or DEFAULT_NAMESPACE
    if set(cluster) <= _CLUSTER and set(user) <= _USER:
        async with _session(cluster, user, _folder(where)) as server:
            yield UserKube(server, namespace)
    else:
        async with kube.connect(Path(where), namespace, context=choice.context) as other:
            yield UserKube(other.server, namespace)


def _read(where: str) -> dict[str, Any]:
    """The kubeconfig; of several files (`a:b`), the first that names a thing counts, as for kubectl."""
    merged: dict[str, Any] = {}
    found = [path for part in where.split(os.pathsep) if part and (path := Path(part).expanduser()).is_file()]
    if not found:
        msg = f"no kubeconfig at {where}: say where it is with --kubeconfig or KUBECONFIG"
        raise CliError(msg, Exit.UNREACHABLE)
    for path in found:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            msg = f"kubeconfig {path} can't be read: {str(error).splitlines()[0]}"
            raise CliError(msg, Exit.USAGE) from error
        if not isinstance(content, dict):
            msg = f"kubeconfig {path} is no kubeconfig"
            raise CliError(msg, Exit.USAGE)
        for key in ("clusters", "users", "contexts"):
            merged.setdefault(key, []).extend(content.get(key) or ())
        merged.setdefault("current-context", content.get("current-context"))
    return merged


def _chosen(
    config: Mapping[str, Any], context: str | None, where: str
) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """The cluster, the user and the namespace of the context."""
    name = context or config.get("current-context")
    if not name:
        msg = f"kubeconfig {where} has no current context: choose one with --context"
        raise CliError(msg, Exit.USAGE)
    chosen = _named(config["contexts"], name, "context", where)
    cluster = _named(config["clusters"], chosen.get("cluster"), "cluster", where)
    user = _named(config["users"], chosen["user"], "user", where) if chosen.get("user") else {}
    if not cluster.get("server"):
        msg = f"kubeconfig {where}: cluster {chosen.get('cluster')!r} has no server"
        raise CliError(msg, Exit.USAGE)
    return cluster, user, chosen.get("namespace") or ""


def _named(entries: Sequence[Any], name: Any, kind: str, where: str) -> Mapping[str, Any]:
    for entry in entries:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry.get(kind) or {}
    msg = f"kubeconfig {where} has no {kind} {name!r}"
    raise CliError(msg, Exit.USAGE)


def _folder(where: str) -> Path:
    """What relative paths in a kubeconfig are relative to."""
    return Path(where.partition(os.pathsep)[0]).expanduser().resolve().parent


@asynccontextmanager
async def _session(
    cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path
) -> AsyncIterator[Server]:
    try:
        tls = _tls(cluster, user, folder)
        token = user.get("token") or (
            (folder / user["tokenFile"]).read_text().strip() if user.get("tokenFile") else ""
        )
    except (OSError, ValueError) as error:  # An ssl.SSLError is an OSError.
        msg = f"the kubeconfig's certificates or token can't be used: {error}"
        raise CliError(msg, Exit.USAGE) from error

    async def sign(headers: dict[str, str]) -> None:
        if token:
            headers["Authorization"] = f"Bearer {token}"

    connector = aiohttp.TCPConnector(ssl=tls, limit=32)
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
    certificate, key = (_file(user, f"client-{part}", folder) for part in ("certificate", "key"))
    if certificate and key:
        with tempfile.TemporaryDirectory() as private:  # OpenSSL reads a key from a file only.
            certificate_file, key_file = Path(private) / "certificate", Path(private) / "key"
            certificate_file.write_bytes(certificate)
            key_file.write_bytes(key)
            tls.load_cert_chain(certificate_file, key_file)
    return tls


def _file(user: Mapping[str, Any], key: str, folder: Path) -> bytes:
    """What an entry holds, in itself or in the file that it names; empty if there is none."""
    if data := user.get(f"{key}-data"):
        return base64.b64decode(data)
    return (folder / user[key]).read_bytes() if user.get(key) else b""

"""Builds the PhJobs to submit: from flags, from a file, or as a copy of a finished job."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import Caller
from phjob_core.api import API_VERSION, Object

DEFAULT_PREFIX = "job"
"""Prefix of the names that the API server completes."""
_MAX_PREFIX_CHARS = 63 - len("-xxxxx")
"""Longest prefix. The API server adds five characters, and a pod's host name has at most 63."""
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "app.kubernetes.io/instance", "app.kubernetes.io/managed-by",  # Argo CD and Helm
    "argocd.argoproj.io/*", "*.toolkit.fluxcd.io/*", "meta.helm.sh/*", "helm.sh/*",
    "applyset.kubernetes.io/*", "kapp.k14s.io/*", "config.k8s.io/*", "configsync.gke.io/*",
    "configmanagement.gke.io/*", "objectset.rio.cattle.io/*", "fleet.cattle.io/*",
)  # fmt: skip
"""Patterns of the labels and annotations that say which tool has created an object.

With them, the tool would take the copy for its own, and delete it because it is in no repository.
"""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def parse_seconds(text: str) -> int:
    """Return the seconds in `90`, `90s`, `5m`, `1h30m` or `2d`.

    Raises:
        CliError: The text is not a duration.

    """
    match = _DURATION.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        msg = f"{text!r} is not a duration: write 90s, 5m, 1h30m or 2d"
        raise CliError(msg, Exit.USAGE)
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return int(timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds())


def from_flags(prefix: str, **spec: Any) -> dict[str, Any]:
    """Return a PhJob with these fields, without those that are None."""
    return _manifest(prefix, {key: value for key, value in spec.items() if value is not None})


def from_file(path: str, user: str | None = None) -> list[dict[str, Any]]:
    """Return the PhJobs in a file, or on standard input (`-`).

    A job without a name gets one from the API server. A job without a user gets `user`.

    Raises:
        CliError: The file cannot be read, contains other objects, or contains none.

    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        documents = [
            document for document in yaml.safe_load_all(_decode(content, path)) if document is not None
        ]
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CliError(msg, Exit.USAGE) from error
    except yaml.YAMLError as error:
        msg = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise CliError(msg, Exit.USAGE) from error
    jobs = [_complete(item, path, user) for document in documents for item in _items(document)]
    if not jobs:
        msg = f"{path} contains no PhJob"
        raise CliError(msg, Exit.USAGE)
    return jobs


def from_script(path: Path) -> str:
    """Return the command that is a file's text, with the line ends of the file.

    Raises:
        CliError: The file cannot be read, or is not UTF-8.

    """
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CliError(msg, Exit.USAGE) from error


def _decode(content: bytes, path: str) -> str:
    """Return the text of a file in UTF-8, the only encoding that Kubernetes accepts.

    Raises:
        CliError: It has another encoding.

    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        msg = (
            f"{path} is not UTF-8: line {line} has the byte 0x{content[error.start]:02x}; "
            f"convert it, for example from Latin-1: iconv -f LATIN1 -t UTF-8 {shlex.quote(path)}"
        )
        raise CliError(msg, Exit.USAGE) from error


def copy_for_retry(job: Object) -> dict[str, Any]:
    """Return a copy of a job, to run again under a new name."""
    metadata = job["metadata"]
    not_copied = ("cancel", "suspend")
    copy = _manifest(metadata["name"], {k: v for k, v in job["spec"].items() if k not in not_copied})
    for field in ("labels", "annotations"):
        kept = {
            key: value
            for key, value in (metadata.get(field) or {}).items()
            if not any(fnmatchcase(key, pattern) for pattern in _NOT_COPIED)
        }
        if kept:
            copy["metadata"][field] = kept
    return copy


def with_group_id(job: dict[str, Any], group_ids: Mapping[str, str]) -> dict[str, Any]:
    """Return the job with the id of its group, unless it has one or the group has none.

    PrimeHub's console and SDK show only jobs with it.
    """
    return _with_default(job, "groupId", group_ids.get(str(job["spec"].get("groupName")), ""))


def with_user_id(job: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Return the job with the id of its user, if that is the caller, and the API server knows the id."""
    return _with_default(job, "userId", caller.uid if job["spec"].get("userName") == caller.name else "")


def _items(document: Any) -> Iterator[Any]:
    """Yield the items of a `List`, otherwise the document itself."""
    if isinstance(document, Mapping) and document.get("kind") == "List":
        yield from document.get("items") or ()
    else:
        yield document


def _complete(item: Any, path: str, user: str | None) -> dict[str, Any]:
    """Return the PhJob with a name and a user.

    Raises:
        CliError: The item is not a PhJob.

    """
    if not isinstance(item, dict) or item.get("kind") != "PhJob":
        kind = item.get("kind") if isinstance(item, dict) else type(item).__name__
        msg = f"{path} contains a {kind}: only PhJobs can be submitted"
        raise CliError(msg, Exit.USAGE)
    metadata = dict(item.get("metadata") or {})
    if not metadata.get("name"):
        metadata.setdefault("generateName", f"{DEFAULT_PREFIX}-")
    spec = dict(item.get("spec") or {})
    if user:
        spec.setdefault("userName", user)
    return {**item, "metadata": metadata, "spec": spec}


def _with_default(job: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    """Return the job with the field, unless the value is empty or the job has the field."""
    return {**job, "spec": {field: value, **job["spec"]}} if value else job


def _manifest(prefix: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a PhJob whose name the API server completes."""
    metadata = {"generateName": f"{prefix[:_MAX_PREFIX_CHARS]}-"}
    return {"apiVersion": API_VERSION, "kind": "PhJob", "metadata": metadata, "spec": spec}

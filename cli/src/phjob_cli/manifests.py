"""Builds the PhJobs to submit: from flags, from a file, or as a copy of a finished job."""

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from phjob_cli.errors import CliError, Exit
from phjob_core.api import API_VERSION, Object

DEFAULT_PREFIX = "job"
"""Prefix of the names that the API server completes."""
_MAX_PREFIX_CHARS = 63 - len("-xxxxx")
"""Longest prefix. The API server adds five characters, and a pod's host name has at most 63."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TRACKING = re.compile(
    r"app\.kubernetes\.io/(instance|managed-by)|argocd\.argoproj\.io/.*|meta\.helm\.sh/.*|helm\.sh/.*"
    r"|(kustomize|helm)\.toolkit\.fluxcd\.io/.*"
)
"""The labels and annotations by which Argo CD, Helm and Flux know their own objects.

A copy with them would be an object that is not in git, and Argo CD would delete it while it runs.
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
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CliError(msg, Exit.USAGE) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise CliError(msg, Exit.USAGE) from error
    jobs = [_complete(item, path, user) for document in documents for item in _items(document)]
    if not jobs:
        msg = f"{path} contains no PhJob"
        raise CliError(msg, Exit.USAGE)
    return jobs


def copy_for_retry(job: Object) -> dict[str, Any]:
    """Return a copy of a job, to run again under a new name."""
    metadata = job["metadata"]
    copy = _manifest(
        metadata["name"], {k: v for k, v in job["spec"].items() if k not in ("cancel", "suspend")}
    )
    for part in ("labels", "annotations"):
        kept = {
            key: value
            for key, value in (metadata.get(part) or {}).items()
            if key != _LAST_APPLIED and not _TRACKING.fullmatch(key)
        }
        if kept:
            copy["metadata"][part] = kept
    return copy


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


def _manifest(prefix: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a PhJob whose name the API server completes."""
    metadata = {"generateName": f"{prefix[:_MAX_PREFIX_CHARS]}-"}
    return {"apiVersion": API_VERSION, "kind": "PhJob", "metadata": metadata, "spec": spec}

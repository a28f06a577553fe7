"""PhJobs to submit: from flags, from a file, or as a copy of one that has ended. Pure but for the reading."""

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from kubectl_phjob.errors import CliError, Exit
from shared.kube import Object
from shared.phjob import API_VERSION

PREFIX = "job"
_ROOM = 63 - len("-xxxxx")
"""Characters of a name that the API server completes by five of its own."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def seconds(text: str) -> int:
    """`90`, `90s`, `5m`, `1h30m`, `2d` in seconds.

    Raises:
        CliError: it is none of these.

    """
    match = _SPAN.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        msg = f"{text!r} is no time: write 90s, 5m, 1h30m or 2d"
        raise CliError(msg, Exit.USAGE)
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return int(timedelta(days=days, hours=hours, minutes=minutes, seconds=rest).total_seconds())


def from_flags(prefix: str, **spec: Any) -> dict[str, Any]:
    """A PhJob whose name the API server completes; of the spec, what is not None."""
    return _named(prefix, {key: value for key, value in spec.items() if value is not None})


def from_file(where: str, user: str | None = None) -> list[dict[str, Any]]:
    """The PhJobs of a file, or of standard input (`-`); one without a name gets one.

    Raises:
        CliError: it can't be read, or holds something else, or nothing.

    """
    try:
        text = sys.stdin.read() if where == "-" else Path(where).read_text()
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        msg = f"{where} can't be read: {error.strerror}"
        raise CliError(msg, Exit.USAGE) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{where} is not YAML: {' '.join(str(error).split())}"
        raise CliError(msg, Exit.USAGE) from error
    jobs = [_checked(document, where, user) for whole in documents for document in _items(whole)]
    if not jobs:
        msg = f"{where} holds no PhJob"
        raise CliError(msg, Exit.USAGE)
    return jobs


def _items(document: Any) -> Iterator[Any]:
    if isinstance(document, Mapping) and document.get("kind") == "List":
        yield from document.get("items") or ()
    else:
        yield document


def _checked(document: Any, where: str, user: str | None) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("kind") != "PhJob":
        kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
        msg = f"{where} holds a {kind}: only PhJobs can be submitted"
        raise CliError(msg, Exit.USAGE)
    metadata = dict(document.get("metadata") or {})
    if not metadata.get("name"):
        metadata.setdefault("generateName", f"{PREFIX}-")
    spec = dict(document.get("spec") or {})
    if user:
        spec.setdefault("userName", user)
    return {**document, "metadata": metadata, "spec": spec}


def again(job: Object) -> dict[str, Any]:
    """A copy of a job, to be run once more under a new name."""
    metadata = job["metadata"]
    copy = _named(metadata["name"], {k: v for k, v in job["spec"].items() if k != "cancel"})
    kept = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != _LAST_APPLIED}
    for key, value in (("labels", metadata.get("labels")), ("annotations", kept)):
        if value:
            copy["metadata"][key] = value
    return copy


def _named(prefix: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"generateName": f"{prefix[:_ROOM]}-"}
    return {"apiVersion": API_VERSION, "kind": "PhJob", "metadata": metadata, "spec": spec}

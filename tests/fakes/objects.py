"""Builders of Kubernetes objects as the API server returns them, for tests of projections."""

from typing import Any


def an_object(name: str = "x", **parts: Any) -> dict[str, Any]:
    """Return an object with metadata and these parts."""
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "42",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, **parts}


def a_phjob_object(**status: Any) -> dict[str, Any]:
    """Return a PhJob with all required fields, and this status."""
    spec = {
        "command": "secret",
        "userName": "bob",
        "groupName": "phusers",
        "image": "base-notebook",
        "instanceType": "gpu-1",
    }
    return an_object("job-1", spec=spec, status=status)


def a_pod_object(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """Return a pod of a group with this status and additional metadata."""
    pod = an_object("job-1", spec={"containers": []}, status=status or {})
    pod["metadata"] |= {"labels": {"primehub.io/group": "escaped-g"}, **metadata}
    return pod

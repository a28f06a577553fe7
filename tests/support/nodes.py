"""The state of the only node of a local stack."""

from datetime import datetime

from tests.support.api import Api


def ready_condition(api: Api) -> tuple[str, datetime]:
    """Return the status of the condition Ready, and the time of its last change."""
    (node,) = api.list("Node")["items"]
    condition = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
    return condition["status"], datetime.fromisoformat(condition["lastTransitionTime"])

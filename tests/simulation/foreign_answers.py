"""Answers that are not the API server's judgement of a request, as clients get them in a real cluster.

They pass through the product's own interpretation of answers (`phjob_kube.http.failure`), which is thus
tested, too.
"""

import json
from dataclasses import dataclass
from typing import Any

from phjob_core.errors import PhJobError
from phjob_kube import http

STARTING_ANSWERS = ("401", "403")
"""The answers of an API server that has just started, or whose role bindings are missing for a moment."""
INTERMEDIARY_ANSWERS = ("404 HTML", "409", "410", "422", "410 by a webhook", "200 HTML")
"""The answers of proxies, resource quotas and admission webhooks."""

POLICY_ANSWERS = ("422", "410 by a webhook")
"""The answers that reject a pod, so that its job is requeued."""


@dataclass(frozen=True)
class ForeignAnswers:
    """The share of the requests that get one of these answers, and are not carried out."""

    share: float
    kinds: tuple[str, ...]


def _status(code: int, reason: str, message: str) -> bytes:
    answer: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return json.dumps({**answer, "code": code, "reason": reason, "message": message}).encode()


_HTML = b"<html><body><h1>Nothing here</h1></body></html>"
_ANSWERS = {
    "401": (401, _status(401, "Unauthorized", "Unauthorized")),
    "403": (
        403,
        _status(
            403,
            "Forbidden",
            'phjobs.primehub.io "job" is forbidden: User "system:serviceaccount:hub:phjob-pod-manager" '
            'cannot patch resource "phjobs/status" in API group "primehub.io" in the namespace "hub"',
        ),
    ),
    "404 HTML": (404, _HTML),
    "200 HTML": (503, _HTML),
    "409": (409, _status(409, "Conflict", "the object has been modified; please apply your changes again")),
    "410": (410, _HTML),
    "422": (422, _status(422, "Invalid", 'admission webhook "policy.example.com" denied the request')),
    "410 by a webhook": (
        410,
        _status(410, "OverQuota", 'admission webhook "policy.example.com" denied the request: try later'),
    ),
}


def failure(kind: str, verb: str) -> PhJobError:
    """Return the error that the product makes of such an answer to a request."""
    method = {"get": "GET", "create": "POST", "delete": "DELETE", "replace": "PUT"}.get(verb, "PATCH")
    if method == "GET" and kind in {"422", "410 by a webhook", "409"}:
        kind = "404 HTML"  # Reads do not pass through admission.
    code, content = _ANSWERS[kind]
    return http.failure(code, content, method)

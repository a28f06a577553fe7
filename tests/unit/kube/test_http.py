"""Which error an answer means, whether the API server gave it or a proxy in front of it."""

import json

import pytest

from phjob_core.errors import (
    DeniedError,
    ExpiredError,
    NotAuthorizedError,
    PhJobError,
    RejectedError,
    UnreachableError,
)
from phjob_kube.http import MAX_MESSAGE_CHARS, failure, rejection

BY_RBAC = 'pods "train" is forbidden: User "system:serviceaccount:hub:phjob-pod-manager" cannot patch pods'
BY_POLICY = "phjobs.primehub.io \"train\" is forbidden: ValidatingAdmissionPolicy 'x' denied request: no"
BY_QUOTA = 'pods "train" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1'


TOO_LARGE_FOR_CLIENT = (
    "code = ResourceExhausted desc = trying to send message larger than max (2097399 vs. 2097152)"
)


def a_status(reason: str, message: str = "") -> bytes:
    """Return a `Status` of the API server."""
    return json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()


@pytest.mark.parametrize(
    ("status", "content", "method", "error"),
    [
        (500, a_status("", "etcdserver: request is too large"), "PATCH", RejectedError),
        (500, a_status("", f"rpc error: {TOO_LARGE_FOR_CLIENT}"), "PATCH", RejectedError),
        (401, a_status("Unauthorized", "Unauthorized"), "POST", NotAuthorizedError),
        (403, a_status("Forbidden", BY_RBAC), "PATCH", NotAuthorizedError),
        (403, a_status("Forbidden", BY_POLICY), "PATCH", DeniedError),
        (403, a_status("Forbidden", BY_QUOTA), "POST", RejectedError),
        (404, a_status("NotFound", 'phjobs "train" not found'), "PATCH", RejectedError),
        (409, a_status("AlreadyExists"), "POST", RejectedError),
        (409, a_status("Conflict"), "POST", UnreachableError),
        (409, a_status("Conflict"), "PATCH", UnreachableError),
        (409, a_status("Conflict"), "DELETE", RejectedError),
        (410, a_status("Expired"), "GET", ExpiredError),
        (410, a_status("Expired"), "PATCH", UnreachableError),
        (422, a_status("Invalid", "the server rejected our request"), "PATCH", RejectedError),
        (429, a_status("TooManyRequests"), "POST", UnreachableError),
        (500, a_status("InternalError"), "POST", UnreachableError),
        (504, a_status("Timeout"), "PATCH", UnreachableError),
    ],
)
def test_only_an_answer_about_the_request_itself_rejects_it(
    status: int, content: bytes, method: str, error: type[PhJobError]
) -> None:
    """After any other answer a write may still be carried out, so its outcome is unknown."""
    assert type(failure(status, content, method)) is error


BY_WEBHOOK = 'admission webhook "quota.primehub.io" denied the request: group quota exceeded: gpu'
DENIALS = (
    BY_WEBHOOK,
    'admission webhook "quota.primehub.io" denied the request without explanation',
    f'pods "train" is forbidden: {BY_WEBHOOK}',
    f"Internal error occurred: {BY_WEBHOOK}",
    BY_POLICY,
    "pods \"train\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no",
    "policy 'x' with binding 'y' denied request: a mutation failed",
    'policy "x" denied request: a mutation failed',
)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 410, 413, 422, 429, 500, 503, 504])
@pytest.mark.parametrize("message", DENIALS)
def test_a_webhook_denies_a_write_with_any_status(status: int, message: str) -> None:
    """PrimeHub's denies with 410, which would otherwise mean an expired revision (spec.md, Q5)."""
    for method in ("POST", "PATCH", "PUT", "DELETE"):
        for reason in ("", "Conflict", "Expired"):
            error = failure(status, a_status(reason, message), method)
            assert type(error) is DeniedError
            assert (error.status, str(error)) == (status, message)


@pytest.mark.parametrize(
    "message",
    [
        'failed calling webhook "quota.primehub.io": failed to call webhook: connection refused',
        'Pod "train" is invalid: spec.hostname: Invalid value: "admission webhook denied the request"',
        'nothing: an admission webhook "x" denied the request of another',
    ],
)
def test_other_words_are_no_denial(message: str) -> None:
    """A webhook that does not answer has decided nothing, and users choose the values that are quoted."""
    assert type(failure(500, a_status("InternalError", message), "POST")) is UnreachableError


def test_no_webhook_denies_a_read() -> None:
    """Reads do not pass through admission, so their 410 is an expired revision whatever it says."""
    assert type(failure(410, a_status("Expired", BY_WEBHOOK), "GET")) is ExpiredError


def test_a_rejection_has_the_servers_reason_and_message() -> None:
    """Users read the message in the status of their job."""
    error = failure(403, a_status("Forbidden", BY_QUOTA), "POST")
    assert isinstance(error, RejectedError)
    assert (error.status, error.reason, str(error)) == (403, "Forbidden", BY_QUOTA)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410, 422, 502])
@pytest.mark.parametrize(
    "content", [b"<html>no such page</html>", b"", b"[]", b'{"error": "denied"}', b"\xff"]
)
def test_the_answer_of_a_proxy_leaves_the_outcome_unknown(status: int, content: bytes) -> None:
    """A load balancer's 404 does not mean that the object is gone."""
    error = failure(status, content, "GET")
    assert type(error) is UnreachableError
    assert error.status == status
    assert f"something other than the API server answered {status}" in str(error)


def test_the_message_of_an_error_is_bounded() -> None:
    """The API server quotes values that it rejects, and a user chooses them."""
    content = a_status("Invalid", "x" * 10**6)
    for error in (failure(422, content, "POST"), failure(500, content, "POST"), rejection(422, content)):
        assert MAX_MESSAGE_CHARS <= len(str(error)) < MAX_MESSAGE_CHARS + 100

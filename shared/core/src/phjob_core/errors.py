"""Errors, divided by whether a retry can help.

They are raised at the edge that knows: the API client, the broker client, the settings reader.
"""


class PhJobError(Exception):
    """The base of all errors that PhJob raises on purpose."""


class RetryableError(PhJobError):
    """The same call may succeed later."""


class PermanentError(PhJobError):
    """The same call will never succeed."""


class SettingsError(PermanentError):
    """A setting is unusable. The message names its key and the remedy."""


class UnreachableError(RetryableError):
    """The API server or the broker did not answer, or answered that it cannot answer now.

    The outcome of a write is unknown: it may be carried out already, or later. `status` is the HTTP
    status, 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotAuthorizedError(UnreachableError):
    """The API server does not know the client (401), or RBAC forbids the request (403).

    An API server also gives these answers before it has read its roles and bindings
    (kubernetes/kubernetes#121635), or while an operator restores them. They are no verdict on the object, so
    a service retries.
    """


class RejectedError(PermanentError):
    """The API server has rejected the request; a write is not carried out.

    `status` is the HTTP status, `reason` is Kubernetes' own (`NotFound`, `Conflict`, `Invalid`, ...), and the
    text is the server's message.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    def means(self, *statuses: int) -> bool:
        """Return whether one of these statuses is the API server's own verdict."""
        return self.status in statuses


class DeniedError(RejectedError):
    """An admission webhook or policy has denied the request, with any status that its author chose.

    PrimeHub's webhook for quotas denies with 410, for example. So the status means nothing: 404 is no missing
    object, 409 no taken name, and 410 no expired revision.
    """

    def means(self, *statuses: int) -> bool:  # noqa: ARG002 - its author chose it
        """Return False."""
        return False


class ExpiredError(PermanentError):
    """The revision of a watch or of a page is too old (410 `Expired`): list again."""

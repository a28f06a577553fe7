"""The errors that a service can meet, told apart by the only thing that matters: try again, or not.

They are raised at the edge that knows (the API client, the broker client, the settings reader).
"""


class PhJobError(Exception):
    """Everything this project raises on purpose."""


class RetryableError(PhJobError):
    """The same call may succeed later; nothing is wrong with what was asked."""


class PermanentError(PhJobError):
    """The same call will never succeed; somebody must change what was asked."""


class SettingsError(PermanentError):
    """A setting is unusable; the message names its key and the remedy."""


class UnreachableError(RetryableError):
    """The API server or the broker did not answer, or answered that it cannot now.

    For a write, the outcome is unknown: it may be done, it may even be done later. `status` is the
    HTTP status, 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class RefusedError(PermanentError):
    """The API server gave a definite no (4xx but 408 and 429): the write is not done.

    `status` is the HTTP status, `reason` Kubernetes' own word for it (`NotFound`, `Conflict`,
    `Invalid`, ...), and the text is the server's message.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class GoneError(PermanentError):
    """A watch's revision is too old (410 `Expired`): list again."""

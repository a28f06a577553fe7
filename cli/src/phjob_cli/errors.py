"""Exit codes and error messages.

Every failure becomes one sentence and an exit code; a user never sees a traceback (spec.md, E5).
"""

from enum import IntEnum

from phjob_core.errors import (
    DeniedError,
    ExpiredError,
    PermanentError,
    RejectedError,
    SettingsError,
    UnreachableError,
)


class Exit(IntEnum):
    """Exit codes of the commands, for scripts (spec.md, E5)."""

    OK = 0
    FAILED = 1
    """A job failed, was cancelled or can never run, or the API server rejected a request."""
    USAGE = 2
    """The command line, a file or the kubeconfig is not valid."""
    NOT_FOUND = 3
    """The job, group or log does not exist."""
    FORBIDDEN = 4
    """The API server does not know the user, or forbids the request."""
    UNREACHABLE = 5
    """There is no kubeconfig, or the API server does not answer."""
    UNEXPECTED = 70
    """An unexpected error."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CliError(PermanentError):
    """A failure with its message for the user and its exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def describe_error(error: BaseException) -> tuple[str, Exit]:
    """Return the message and the exit code for an exception.

    For a group of exceptions, they are those of the first.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case CliError():
            return str(error), error.code
        case RejectedError():
            return _describe_rejection(error)
        case SettingsError():
            return str(error), Exit.USAGE
        case UnreachableError() | ExpiredError():
            return str(error), Exit.UNREACHABLE
        case KeyboardInterrupt():
            return "interrupted", Exit.INTERRUPTED
    return f"unexpected error: {type(error).__name__}: {error}", Exit.UNEXPECTED


def _describe_rejection(error: RejectedError) -> tuple[str, Exit]:
    if isinstance(error, DeniedError) and error.status != 403:
        return f"refused: {error}", Exit.FAILED
    match error.status:
        case 401:
            cause = "your credentials have expired, or are wrong"
            remedy = "log in again, or check the user in the kubeconfig"
            return f"the API server does not know you: {cause}; {remedy}", Exit.FORBIDDEN
        case 403:
            return f"forbidden: {error}", Exit.FORBIDDEN
        case 404:
            return f"not found: {error}", Exit.NOT_FOUND
    return f"refused: {error}", Exit.FAILED

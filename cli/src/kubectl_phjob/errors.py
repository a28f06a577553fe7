"""What can go wrong for a user, as one line and an exit code.

Whatever it is, it is told in a sentence: no traceback ever reaches a user.
"""

from enum import IntEnum

from shared.errors import GoneError, PermanentError, RefusedError, SettingsError, UnreachableError


class Exit(IntEnum):
    """How a command ends, for scripts."""

    OK = 0
    NO = 1
    """The answer is no: a job failed, or never can run; something was refused."""
    USAGE = 2
    """The command line, or a file that it names, is not right."""
    NOT_FOUND = 3
    """There is no such job or group."""
    FORBIDDEN = 4
    """The API server does not know the user, or does not let him."""
    UNREACHABLE = 5
    """There is no cluster, or it does not answer."""
    UNEXPECTED = 70
    """Something that nobody foresaw."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CliError(PermanentError):
    """A sentence for the user, and how the command ends."""

    def __init__(self, message: str, code: Exit = Exit.NO) -> None:
        super().__init__(message)
        self.code = code


def told(error: BaseException) -> tuple[str, Exit]:
    """The sentence and the exit code for what was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case CliError():
            return str(error), error.code
        case RefusedError():
            return _refused(error)
        case SettingsError():
            return str(error), Exit.USAGE
        case UnreachableError() | GoneError():
            return str(error), Exit.UNREACHABLE
        case KeyboardInterrupt():
            return "interrupted", Exit.INTERRUPTED
    return f"unexpected: {type(error).__name__}: {error}", Exit.UNEXPECTED


def _refused(error: RefusedError) -> tuple[str, Exit]:
    match error.status:
        case 401:
            text = "the API server does not know you: your credentials have expired, or are wrong"
            return text, Exit.FORBIDDEN
        case 403:
            return f"forbidden: {error}", Exit.FORBIDDEN
        case 404:
            return f"not found: {error}", Exit.NOT_FOUND
    return f"refused: {error}", Exit.NO

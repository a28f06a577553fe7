import pytest

from phjob_cli.errors import CliError, Exit, describe_error
from phjob_core.errors import DeniedError, ExpiredError, RejectedError, SettingsError, UnreachableError


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (CliError("no such job", Exit.NOT_FOUND), "no such job", Exit.NOT_FOUND),
        (RejectedError(403, "Forbidden", "you cannot"), "forbidden: you cannot", Exit.FORBIDDEN),
        (RejectedError(404, "NotFound", "phjobs"), "not found: phjobs", Exit.NOT_FOUND),
        (RejectedError(422, "Invalid", "spec.image"), "refused: spec.image", Exit.FAILED),
        (DeniedError(404, "NotFound", "by a webhook"), "refused: by a webhook", Exit.FAILED),
        (DeniedError(403, "Forbidden", "by a policy"), "forbidden: by a policy", Exit.FORBIDDEN),
        (SettingsError("KUBECONFIG x"), "KUBECONFIG x", Exit.USAGE),
        (UnreachableError("no answer"), "no answer", Exit.UNREACHABLE),
        (ExpiredError("too old"), "too old", Exit.UNREACHABLE),
        (KeyboardInterrupt(), "interrupted", Exit.INTERRUPTED),
        (ValueError("odd"), "unexpected error: ValueError: odd", Exit.UNEXPECTED),
    ],
)
def test_each_error_has_a_message_and_an_exit_code(error: BaseException, message: str, code: Exit) -> None:
    """spec.md, E5."""
    assert describe_error(error) == (message, code)


def test_rejected_credentials_are_explained_with_a_remedy() -> None:
    """The API server's own message is only `Unauthorized`."""
    message, code = describe_error(RejectedError(401, "Unauthorized", "Unauthorized"))
    assert "your credentials have expired, or are wrong; log in again" in message
    assert code is Exit.FORBIDDEN


def test_of_a_group_of_errors_the_first_is_described() -> None:
    """Requests that run at the same time fail together."""
    group = ExceptionGroup("", [ExceptionGroup("", [UnreachableError("no answer"), ValueError()])])
    assert describe_error(group) == ("no answer", Exit.UNREACHABLE)

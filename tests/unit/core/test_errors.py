import pytest

from phjob_core import errors
from phjob_core.errors import PermanentError, PhJobError, RejectedError, RetryableError, UnreachableError

ERRORS = [error for error in vars(errors).values() if isinstance(error, type) and error is not PhJobError]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_either_retryable_or_permanent(error: type[Exception]) -> None:
    """A caller decides by the base class whether to repeat a call."""
    assert issubclass(error, RetryableError) is not issubclass(error, PermanentError)


def test_an_error_of_the_api_server_has_its_status() -> None:
    """Some statuses need a reaction of their own, such as 409 and 500."""
    assert (UnreachableError("no answer").status, UnreachableError("busy", 503).status) == (0, 503)
    rejected = RejectedError(409, "Conflict", "the name is taken")
    assert (rejected.status, rejected.reason, str(rejected)) == (409, "Conflict", "the name is taken")

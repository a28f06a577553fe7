"""The outcome of one step that the reconciler takes for a job."""

from enum import Enum, auto

from phjob_core.errors import RetryableError


class Progress(Enum):
    """The reconciler's next action after a step."""

    REPLAN = auto()
    """Plan the next step at once, because the step has changed the job's cached state."""
    WAIT = auto()
    """Wait for the next fact, command or timer, because planning again would give the same step."""


class WriteRejectedError(RetryableError):
    """The API server has rejected a write although its object is unchanged.

    A policy, a webhook or a missing permission does that. The job's worker retries after a pause.
    """

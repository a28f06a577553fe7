"""The author of a message: the service that it names, proven by RabbitMQ's user. Pure.

A publisher writes `app_id` itself, so that property proves nothing. RabbitMQ accepts a `user_id` only if it
is the user of the publisher's connection (RabbitMQ, "Validated User-ID"). The two together are the proof.
"""

from dataclasses import dataclass

from phjob_core.errors import PermanentError
from phjob_core.messages import Message
from phjob_runtime.amqp import topology

DEFAULT_USER = "guest"
"""The user of a URL without one, as in RabbitMQ's clients."""


class AuthorshipError(PermanentError):
    """The author of a message is not proven, or may not send it. The text states the problem."""


@dataclass(frozen=True)
class BrokerUsers:
    """The RabbitMQ users of an installation's services (spec.md, E6)."""

    own: str
    """The user of this process."""
    prefix: str | None
    """What precedes the service in the name of each service's user. None: all services share one user."""

    @classmethod
    def of(cls, user: str, role: str) -> "BrokerUsers":
        """Return the users of an installation in which `user` is that of a service or the operator.

        If its name ends in the role, each service has a user of its own, named in the same way. Otherwise all
        share this user.
        """
        return cls(user, user.removesuffix(role) if user.endswith(role) else None)

    def user_of(self, service: str) -> str:
        """Return the user of a service."""
        return self.own if self.prefix is None else f"{self.prefix}{service}"

    def author(self, app_id: str | None, user_id: str | None) -> str:
        """Return the service that published a message with these properties.

        Raises:
            AuthorshipError: the message names no service, or its user is not that of the service.

        """
        if app_id not in topology.SERVICES:
            raise AuthorshipError(f"its publisher {app_id!r} is not a service")
        expected = self.user_of(app_id)
        if user_id != expected:
            actual = f"RabbitMQ's user {user_id!r}" if user_id else "an unknown user"
            raise AuthorshipError(
                f"it names {app_id} as its publisher, but {actual} sent it, not {expected!r}"
            )
        return app_id


def check_permission(author: str, queue: str, message: Message) -> None:
    """Check that the author may send the message to the queue.

    RabbitMQ's permissions cannot express the kind. Without this, a stolen janitor could admit jobs.

    Raises:
        AuthorshipError: it may not.

    """
    recipient = topology.service_of(queue)
    if recipient not in topology.RECIPIENTS[author] or type(message) not in topology.SENDS[author]:
        raise AuthorshipError(f"{author} may not send {message.kind} to {recipient}")

"""The author of a message: the service that it names, proven by RabbitMQ's user (spec.md, E6)."""

import pytest

from phjob_core.messages import (
    CatalogSynced,
    Fence,
    Heartbeat,
    JobGone,
    Message,
    Reclaim,
    SessionRequest,
    SnapshotRequest,
)
from phjob_runtime.amqp.authorship import AuthorshipError, BrokerUsers, check_permission

A_FACT = JobGone(uid="u", name="job", group="phusers", resource_version=1)
A_COMMAND = Reclaim(uid="u", name="job", group="phusers", fence="s#1")


@pytest.mark.parametrize(
    ("user", "watcher"),
    [("janitor", "watcher"), ("hub-janitor", "hub-watcher"), ("janitor-janitor", "janitor-watcher")],
)
def test_the_users_of_the_services_are_named_in_the_same_way(user: str, watcher: str) -> None:
    """Nothing has to be configured, and several installations can share a broker."""
    users = BrokerUsers.of(user, "janitor")
    assert users.user_of("watcher") == watcher
    assert users.author("watcher", watcher) == "watcher"
    assert users.author("janitor", user) == "janitor"


@pytest.mark.parametrize("user", ["guest", "phjob", "janitor-of-hub"])
def test_services_without_users_of_their_own_share_one(user: str) -> None:
    """As on the local stack: a message of that user is of the service that it names."""
    users = BrokerUsers.of(user, "janitor")
    assert users.author("watcher", user) == "watcher"
    with pytest.raises(AuthorshipError, match="'somebody' sent it"):
        users.author("watcher", "somebody")


@pytest.mark.parametrize(
    ("app_id", "user_id", "problem"),
    [
        ("watcher", "janitor", "names watcher as its publisher, but RabbitMQ's user 'janitor' sent it"),
        ("watcher", "hub-watcher", "'hub-watcher' sent it, not 'watcher'"),
        ("watcher", None, "an unknown user sent it, not 'watcher'"),
        ("watcher", "", "an unknown user"),
        ("operator", "operator", "'operator' is not a service"),
        (None, "janitor", "None is not a service"),
        ("\x1b[2J", "janitor", r"'\\x1b\[2J' is not a service"),
    ],
)
def test_a_message_of_another_user_has_no_proven_author(
    app_id: str | None, user_id: str | None, problem: str
) -> None:
    """The reason becomes that of the dead letter."""
    with pytest.raises(AuthorshipError, match=problem):
        BrokerUsers.of("pod-manager", "pod-manager").author(app_id, user_id)


@pytest.mark.parametrize(
    ("author", "queue", "message"),
    [
        ("watcher", "scheduler.0", A_FACT),
        ("scheduler", "pod-manager.1", Fence(session="s", queue="scheduler.1")),
        ("janitor", "pod-manager.0", A_COMMAND),
        ("janitor", "janitor.0", Heartbeat()),
        ("pod-manager", "scheduler.0", SessionRequest()),
        ("pod-manager", "watcher", SnapshotRequest(queue="scheduler.0", request="r")),
    ],
)
def test_a_service_may_send_its_own_kinds(author: str, queue: str, message: Message) -> None:
    """To the services that it writes to."""
    check_permission(author, queue, message)


@pytest.mark.parametrize(
    ("author", "queue", "message", "problem"),
    [
        ("janitor", "pod-manager.0", A_FACT, "janitor may not send JobGone to pod-manager"),
        ("janitor", "pod-manager.0", Fence(session="s", queue="q"), "janitor may not send Fence"),
        ("janitor", "scheduler.0", Heartbeat(), "janitor may not send Heartbeat to scheduler"),
        ("scheduler", "pod-manager.0", A_COMMAND, "scheduler may not send Reclaim"),
        ("pod-manager", "scheduler.0", CatalogSynced(request=1, revision=1), "may not send CatalogSynced"),
        ("watcher", "pod-manager.0", A_COMMAND, "watcher may not send Reclaim"),
    ],
)
def test_a_service_may_not_send_what_is_anothers(
    author: str, queue: str, message: Message, problem: str
) -> None:
    """Even to a queue that RabbitMQ permits it to write to."""
    with pytest.raises(AuthorshipError, match=problem):
        check_permission(author, queue, message)

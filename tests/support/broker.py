"""RabbitMQ as an operator uses it: through its management API and rabbitmqctl."""

import json
import os
import subprocess
import urllib.request
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from dev.component import Component
from phjob_runtime.amqp import topology

REQUEST_TIMEOUT_SECONDS = 60
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


class ManagementApi:
    """The management API of a broker, for one of its administrators."""

    def __init__(self, url: str, credentials: str) -> None:
        """Use the API at this URL with the credentials `user:password`."""
        self._url = url
        self._authorization = b64encode(credentials.encode()).decode()
        self.user = credentials.partition(":")[0]
        """The administrator's user, by which it publishes."""

    def import_definitions(self, definitions: object) -> None:
        """Import definitions, as `rabbitmqctl import_definitions` does."""
        self._call("POST", "definitions", definitions)

    def create_vhost(self, name: str) -> None:
        """Create a virtual host, unless it exists."""
        self._call("PUT", f"vhosts/{quote(name, safe='')}")

    def set_password(self, user: str, password: str) -> None:
        """Change the password of a user without tags."""
        self._call("PUT", f"users/{quote(user, safe='')}", {"password": password, "tags": ""})

    def close_connections(self, user: str) -> int:
        """Close the connections of a user, as far as the management API knows them. Returns their number."""
        names = [one["name"] for one in self.connections() if one["user"] == user]
        for name in names:
            self._call("DELETE", f"connections/{quote(name, safe='')}")
        return len(names)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object. `kind` is `vhosts` or `users`."""
        self._call("DELETE", f"{kind}/{quote(name, safe='')}")

    def publish(self, queue: str, body: str, **properties: Any) -> None:
        """Publish a message of any kind to a queue, through the queue's exchange."""
        self.publish_to(f"phjob.{queue.partition('.')[0]}", body, queue, **properties)

    def publish_to(self, exchange: str, body: str, key: str = "", **properties: Any) -> None:
        """Publish a message of any kind to an exchange."""
        content = {
            "routing_key": key,
            "payload": body,
            "payload_encoding": "string",
            "properties": {"user_id": self.user, **properties},
        }
        self._call("POST", f"exchanges/%2F/{exchange}/publish", content)

    def limit_queues(self, pattern: str, messages: int) -> None:
        """Limit the length of the queues whose names match the pattern, by a policy."""
        definition = {"max-length": messages}
        policy = {"pattern": pattern, "definition": definition, "apply-to": "queues", "priority": 1}
        self._call("PUT", "policies/%2F/limit", policy)

    def remove_queue_limit(self) -> None:
        """Delete the policy of `limit_queues`."""
        self._call("DELETE", "policies/%2F/limit")

    def purge(self, queue: str) -> None:
        """Delete all ready messages of the queue."""
        self._call("DELETE", f"queues/%2F/{queue}/contents")

    def peek(self, queue: str) -> list[dict[str, Any]]:
        """Return up to ten messages of the queue, which stay in it."""
        request = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
        found: list[dict[str, Any]] = self._call("POST", f"queues/%2F/{queue}/get", request)
        return found

    def copy_messages_to(self, queue: str) -> None:
        """Declare a queue that gets a copy of every message from one service to another."""
        self._call("PUT", f"queues/%2F/{queue}", {"durable": True})
        for copied in topology.queues(1):
            path = f"bindings/%2F/e/{copied.exchange}/q/{queue}"
            self._call("POST", path, {"routing_key": copied.name})

    def take(self, queue: str) -> list[dict[str, Any]]:
        """Return all messages of the queue, and remove them."""
        request = {"count": 100_000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        found: list[dict[str, Any]] = self._call("POST", f"queues/%2F/{queue}/get", request)
        return found

    def delete_queue(self, queue: str) -> None:
        """Delete a queue."""
        self._call("DELETE", f"queues/%2F/{queue}")

    def queues(self) -> list[dict[str, Any]]:
        """Return every queue. Its counts are a few seconds old."""
        found: list[dict[str, Any]] = self._call("GET", "queues/%2F")
        return found

    def overview(self) -> dict[str, Any]:
        """Return what the management page shows first: versions, totals, listeners."""
        found: dict[str, Any] = self._call("GET", "overview")
        return found

    def connections(self) -> list[dict[str, Any]]:
        """Return every client connection."""
        found: list[dict[str, Any]] = self._call("GET", "connections")
        return found

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api/{path}", data, method=method)  # noqa: S310 - http
        request.add_header("Authorization", f"Basic {self._authorization}")
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
            text = response.read()
        return json.loads(text) if text else None


def rabbitmqctl(rabbitmq: Component, *arguments: str) -> None:
    """Run rabbitmqctl on the broker of a local stack."""
    env = {"PATH": os.environ["PATH"], **rabbitmq.spec.env}
    done = subprocess.run([RABBITMQCTL, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def set_memory_alarm(rabbitmq: Component, *, on: bool) -> None:
    """Raise or clear the broker's memory alarm.

    While it is raised, the broker accepts no messages.
    """
    rabbitmqctl(rabbitmq, "set_vm_memory_high_watermark", "0.00001" if on else "0.4")


def credentials_of(url: str) -> str:
    """Return the credentials of an AMQP URL as `user:password`."""
    parts = urlsplit(url)
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def url_for_user(url: str, user: str, password: str, vhost: str) -> str:
    """Return the URL of the same broker for another user and virtual host."""
    parts = urlsplit(url)
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    address = f"{parts.hostname}:{parts.port}"
    return f"{parts.scheme}://{credentials}@{address}/{quote(vhost, safe='')}"

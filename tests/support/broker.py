"""A broker as an operator handles it: by its management API, and by rabbitmqctl."""

import json
import os
import subprocess
import urllib.request
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from dev.component import Component

SECONDS = 60
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


class Management:
    """The management API of one broker, as one of its administrators."""

    def __init__(self, url: str, login: str) -> None:
        """`login` is `user:password`."""
        self._url = url
        self._login = b64encode(login.encode()).decode()

    def import_definitions(self, definitions: object) -> None:
        """Do what `rabbitmqctl import_definitions` does."""
        self._call("POST", "definitions", definitions)

    def make_vhost(self, name: str) -> None:
        """Make a virtual host, unless it is there."""
        self._call("PUT", f"vhosts/{quote(name, safe='')}")

    def delete(self, kind: str, name: str) -> None:
        """Delete one of the `vhosts` or the `users`."""
        self._call("DELETE", f"{kind}/{quote(name, safe='')}")

    def publish(self, queue: str, body: str, **properties: Any) -> None:
        """Send a message of any kind to a queue of ours, through its exchange."""
        self.publish_to(f"phjob.{queue.partition('.')[0]}", body, queue, **properties)

    def publish_to(self, exchange: str, body: str, key: str = "", **properties: Any) -> None:
        """Send a message of any kind to an exchange."""
        content = {
            "routing_key": key,
            "payload": body,
            "payload_encoding": "string",
            "properties": properties,
        }
        self._call("POST", f"exchanges/%2F/{exchange}/publish", content)

    def limit_queues(self, pattern: str, messages: int) -> None:
        """Let the queues of these names hold so many messages at most, by a policy."""
        definition = {"max-length": messages}
        policy = {"pattern": pattern, "definition": definition, "apply-to": "queues", "priority": 1}
        self._call("PUT", "policies/%2F/limit", policy)

    def unlimit_queues(self) -> None:
        """Take that back."""
        self._call("DELETE", "policies/%2F/limit")

    def purge(self, queue: str) -> None:
        """Delete all that is ready in the queue."""
        self._call("DELETE", f"queues/%2F/{queue}/contents")

    def look_into(self, queue: str) -> list[dict[str, Any]]:
        """Up to ten messages of the queue, which stay in it."""
        wanted = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
        found: list[dict[str, Any]] = self._call("POST", f"queues/%2F/{queue}/get", wanted)
        return found

    def queues(self) -> list[dict[str, Any]]:
        """Every queue, with counts that are a few seconds old."""
        found: list[dict[str, Any]] = self._call("GET", "queues/%2F")
        return found

    def connections(self) -> list[dict[str, Any]]:
        """Every connection of a client."""
        found: list[dict[str, Any]] = self._call("GET", "connections")
        return found

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api/{path}", data, method=method)  # noqa: S310 - http
        request.add_header("Authorization", f"Basic {self._login}")
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def rabbitmqctl(rabbitmq: Component, *arguments: str) -> None:
    """Run RabbitMQ's own tool on a local stack's broker."""
    env = {"PATH": os.environ["PATH"], **rabbitmq.spec.env}
    done = subprocess.run([RABBITMQCTL, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def memory_alarm(rabbitmq: Component, *, on: bool) -> None:
    """Let the broker believe that its memory is full, so that it takes no messages; or no more."""
    rabbitmqctl(rabbitmq, "set_vm_memory_high_watermark", "0.00001" if on else "0.4")


def login_of(url: str) -> str:
    """`user:password` of an AMQP URL."""
    parts = urlsplit(url)
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def as_user(url: str, user: str, password: str, vhost: str) -> str:
    """The same broker's URL, for another user and virtual host."""
    parts = urlsplit(url)
    login, where = f"{quote(user)}:{quote(password)}", f"{parts.hostname}:{parts.port}"
    return f"{parts.scheme}://{login}@{where}/{quote(vhost, safe='')}"

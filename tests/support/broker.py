"""A broker's management API, as an operator uses it: definitions in, virtual hosts out."""

import json
import urllib.request
from base64 import b64encode
from urllib.parse import quote, unquote, urlsplit

SECONDS = 60


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

    def _call(self, method: str, path: str, body: object = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api/{path}", data, method=method)  # noqa: S310 - http
        request.add_header("Authorization", f"Basic {self._login}")
        request.add_header("Content-Type", "application/json")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS).close()


def login_of(url: str) -> str:
    """`user:password` of an AMQP URL."""
    parts = urlsplit(url)
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"


def as_user(url: str, user: str, password: str, vhost: str) -> str:
    """The same broker's URL, for another user and virtual host."""
    parts = urlsplit(url)
    login, where = f"{quote(user)}:{quote(password)}", f"{parts.hostname}:{parts.port}"
    return f"{parts.scheme}://{login}@{where}/{quote(vhost, safe='')}"

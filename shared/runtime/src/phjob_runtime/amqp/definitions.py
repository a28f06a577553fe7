"""RabbitMQ's definitions of an installation: users, permissions, exchanges, queues and bindings.

`python -m phjob_runtime.amqp.definitions [FILE]` writes them, for RabbitMQ's `load_definitions` or for
`rabbitmqctl import_definitions`. RabbitMQ needs them before the services start. With `--compare EXPORT` it
compares them with what `rabbitmqctl export_definitions` has written (`definitions_diff`).

Each service gets a user of its own. It can read the service's queues and write to its recipients' exchanges
(`topology`), and can declare and delete nothing. The operator's user, if there is one, can only inspect and
replay dead letters (`dead_letters`), which it publishes in the name of their authors.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from phjob_core.errors import SettingsError
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.authorship import BrokerUsers
from phjob_runtime.amqp.definitions_diff import differences
from phjob_runtime.amqp.topology import OPERATOR
from phjob_runtime.settings import parse_broker_url

NOTHING = "^$"
EVERYTHING = ".*"
_REMEDY = (
    "An import adds what is missing. RabbitMQ keeps a queue as it was declared: to change one, stop the"
    " services, delete it, import the definitions, and start the services."
)
_SALT_BYTES = 4
"""The size that RabbitMQ's hash algorithm requires."""


def url_variable(service: str) -> str:
    """Return the name of the environment variable with a service's AMQP URL."""
    return f"{service.replace('-', '_').upper()}_AMQP_URL"


def definitions(urls: Mapping[str, str], shards: int, admin: tuple[str, str] | None = None) -> dict[str, Any]:
    """Return the definitions, in RabbitMQ's own format.

    Args:
        urls: the AMQP URL of each service, and optionally of the operator. Each has a user and a password;
            all have the same virtual host.
        shards: the number of shards.
        admin: the user and the password of RabbitMQ's administrator.

    Raises:
        SettingsError: the URLs do not fit together.

    """
    vhost, logins = _logins(urls)
    users = [
        _user(user, password, tags=["impersonator"] if service == OPERATOR else [])
        for service, (user, password) in logins.items()
    ]
    permissions = [_permission(user, vhost, service) for service, (user, _) in logins.items()]
    if admin:
        users.append(_user(*admin, tags=["administrator"]))
        rights = dict.fromkeys(("configure", "write", "read"), EVERYTHING)
        permissions.append({"user": admin[0], "vhost": vhost, **rights})
    access = {"users": users, "vhosts": [{"name": vhost}], "permissions": permissions}
    return {**access, **_objects(vhost, shards)}


def _logins(urls: Mapping[str, str]) -> tuple[str, dict[str, tuple[str, str]]]:
    """Return the virtual host, and each service's user and password."""
    logins, vhosts = {}, set()
    for service in (*topology.SERVICES, *((OPERATOR,) if urls.get(OPERATOR) else ())):
        parts = urlsplit(parse_broker_url(urls[service], url_variable(service)))
        if not parts.username or not parts.password:
            raise SettingsError(f"{url_variable(service)}: the URL needs a user and a password")
        logins[service] = unquote(parts.username), unquote(parts.password)
        vhosts.add(unquote(parts.path.removeprefix("/")) or "/")
    _check_users({service: user for service, (user, _) in logins.items()})
    if len(vhosts) > 1:
        raise SettingsError(f"the URLs have different virtual hosts: {', '.join(sorted(vhosts))}")
    return vhosts.pop(), logins


def _check_users(users: Mapping[str, str]) -> None:
    """Check that each service has a user of its own, named in the same way.

    Raises:
        SettingsError: a receiver could not tell the publishers of its messages by their users (spec.md, E6).

    """
    first = users[topology.WATCHER]
    known = BrokerUsers.of(first, topology.WATCHER)
    if known.prefix is None:
        raise SettingsError(
            f"{url_variable(topology.WATCHER)}: the user {first!r} must be named watcher, or end in it"
        )
    for service, user in users.items():
        if user != known.user_of(service):
            raise SettingsError(
                f"{url_variable(service)}: the user {user!r} must be named {known.user_of(service)!r},"
                f" because that of the watcher is {first!r}"
            )


def _permission(user: str, vhost: str, service: str) -> dict[str, str]:
    if service == OPERATOR:
        writes = [topology.exchange_of(other) for other in topology.SERVICES]
        reads = re.escape(topology.DEAD_LETTER_QUEUE)
    else:
        writes = [topology.exchange_of(other) for other in topology.RECIPIENTS[service]]
        writes.append(topology.DEAD_LETTER_QUEUE)
        reads = re.escape(service) if service == topology.WATCHER else rf"{re.escape(service)}\.[0-9]+"
    return {
        "user": user,
        "vhost": vhost,
        "configure": NOTHING,
        "write": f"^({'|'.join(map(re.escape, writes))})$",
        "read": f"^{reads}$",
    }


def _objects(vhost: str, shards: int) -> dict[str, Any]:
    queues = list(topology.queues(shards))
    exchanges = {queue.exchange: "direct" for queue in queues} | {topology.DEAD_LETTER_QUEUE: "fanout"}
    bindings = [(queue.exchange, queue.name, queue.name) for queue in queues]
    bindings.append((topology.DEAD_LETTER_QUEUE, topology.DEAD_LETTER_QUEUE, ""))
    common = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "exchanges": [
            {"name": name, "type": kind, "internal": False, "arguments": {}, **common}
            for name, kind in exchanges.items()
        ],
        "queues": [
            {"name": name, "arguments": arguments, **common}
            for name, arguments in [
                *((queue.name, queue.arguments) for queue in queues),
                (topology.DEAD_LETTER_QUEUE, topology.DEAD_LETTER_ARGUMENTS),
            ]
        ],
        "bindings": [
            {
                "source": exchange,
                "vhost": vhost,
                "destination": queue,
                "destination_type": "queue",
                "routing_key": key,
                "arguments": {},
            }
            for exchange, queue, key in bindings
        ],
    }


def _user(name: str, password: str, tags: list[str] | None = None) -> dict[str, Any]:
    """Return the user, with RabbitMQ's salted hash of the password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags or [],
    }


def _read(environment: Mapping[str, str], variable: str) -> str:
    """Return the value of a variable, or of the file that `<variable>_FILE` names; empty without both.

    Raises:
        SettingsError: the file exists, and cannot be read.

    """
    file = environment.get(f"{variable}_FILE")
    if not file:
        return environment.get(variable, "")
    try:
        return Path(file).read_text().strip()
    except FileNotFoundError:
        return ""  # The key of a Secret may be optional.
    except OSError as error:
        raise SettingsError(f"{variable}_FILE {file} can't be read: {error.strerror}") from None


def main(environment: Mapping[str, str], *arguments: str) -> int:
    """Write the definitions for the environment's settings, or compare them.

    Returns the exit code: 1 if they differ, 2 for a bad setting.
    """
    parser = argparse.ArgumentParser(
        prog="python -m phjob_runtime.amqp.definitions",
        description="Write or compare RabbitMQ's definitions.",
    )
    parser.add_argument("file", nargs="?", default="/dev/stdout", help="the file to write (default: stdout)")
    parser.add_argument(
        "--compare", metavar="EXPORT", help="a file of rabbitmqctl export_definitions; - is stdin"
    )
    options = parser.parse_args(arguments)
    names = (*topology.SERVICES, OPERATOR)
    try:
        urls = {name: _read(environment, url_variable(name)) for name in names}
        admin = environment.get("RABBITMQ_ADMIN_USER"), _read(environment, "RABBITMQ_ADMIN_PASSWORD")
        shards = int(environment.get("SHARDS", "1"))
        made = definitions(urls, shards, (admin[0], admin[1]) if admin[0] and admin[1] else None)
    except (SettingsError, ValueError) as error:
        sys.stderr.write(f"bad setting: {error}\n")
        return 2
    if options.compare:
        return _compare(made, options.compare)
    Path(options.file).write_text(json.dumps(made, indent=2) + "\n")
    return 0


def _compare(made: dict[str, Any], export: str) -> int:
    """Write the differences to the definitions in a file. Returns the exit code."""
    content = sys.stdin.read() if export == "-" else Path(export).read_text()
    lines = list(differences(made, json.loads(content)))
    if lines:
        lines.append(_REMEDY)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(os.environ, *sys.argv[1:]))

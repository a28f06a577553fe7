"""RabbitMQ's definitions of an installation: everything that it has to have before the services come.

`python -m shared.definitions [FILE]` writes them, for RabbitMQ's `load_definitions` or for
`rabbitmqctl import_definitions`. Each service gets a user of its own, which can read its own queues,
write to its addressees', and make or delete nothing. The operator, if there is one, may look into the dead
letters and send them back (`dead`), and nothing else. What there is, and who writes to whom, is
`topology`'s.
"""

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

from shared import topology
from shared.errors import SettingsError

OPERATOR = "operator"
NOTHING = "^$"
EVERYTHING = ".*"
_SALT_BYTES = 4
"""RabbitMQ's own."""


def url_variable(service: str) -> str:
    """The environment's variable with the service's AMQP URL: `POD_MANAGER_AMQP_URL`."""
    return f"{service.replace('-', '_').upper()}_AMQP_URL"


def definitions(urls: Mapping[str, str], shards: int, admin: tuple[str, str] | None = None) -> dict[str, Any]:
    """The definitions, in RabbitMQ's own format.

    Args:
        urls: each service's AMQP URL: its user, its password, and the virtual host of all; maybe the
            operator's, too.
        shards: into how many parts the groups are divided.
        admin: user and password of the person who looks after the broker.

    Raises:
        SettingsError: the URLs don't fit together.

    """
    vhost, logins = _logins(urls)
    users = [_user(user, password) for user, password in logins.values()]
    permissions = [_permission(user, vhost, service) for service, (user, _) in logins.items()]
    if admin:
        users.append(_user(*admin, tags=["administrator"]))
        rights = dict.fromkeys(("configure", "write", "read"), EVERYTHING)
        permissions.append({"user": admin[0], "vhost": vhost, **rights})
    access = {"users": users, "vhosts": [{"name": vhost}], "permissions": permissions}
    return {**access, **_objects(vhost, shards)}


def _logins(urls: Mapping[str, str]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The virtual host, and each service's user and password."""
    logins, vhosts = {}, set()
    for service in (*topology.SERVICES, *((OPERATOR,) if urls.get(OPERATOR) else ())):
        parts = urlsplit(urls[service])
        if not parts.username or not parts.password:
            raise SettingsError(f"{url_variable(service)}: the URL needs a user and a password")
        logins[service] = unquote(parts.username), unquote(parts.password)
        vhosts.add(unquote(parts.path.removeprefix("/")) or "/")
    if len({user for user, _ in logins.values()}) < len(logins):
        raise SettingsError("two of the URLs have the same RabbitMQ user; each needs one of its own")
    if len(vhosts) > 1:
        raise SettingsError(f"the URLs have different virtual hosts: {', '.join(sorted(vhosts))}")
    return vhosts.pop(), logins


def _permission(user: str, vhost: str, service: str) -> dict[str, str]:
    if service == OPERATOR:
        writes, reads = [topology.exchange_of(other) for other in topology.SERVICES], re.escape(topology.DEAD)
    else:
        writes = [topology.exchange_of(other) for other in topology.WRITES[service]] + [topology.DEAD]
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
    exchanges = {queue.exchange: "direct" for queue in queues} | {topology.DEAD: "fanout"}
    bindings = [(queue.exchange, queue.name, queue.name) for queue in queues]
    bindings.append((topology.DEAD, topology.DEAD, ""))
    there = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "exchanges": [
            {"name": name, "type": kind, "internal": False, "arguments": {}, **there}
            for name, kind in exchanges.items()
        ],
        "queues": [
            {"name": name, "arguments": arguments, **there}
            for name, arguments in [
                *((queue.name, queue.arguments) for queue in queues),
                (topology.DEAD, topology.DEAD_ARGUMENTS),
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
    """The user, with RabbitMQ's own salted hash of the password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags or [],
    }


def main(environment: Mapping[str, str], file: str = "/dev/stdout") -> int:
    """Write the definitions that the environment asks for; the exit code is 2 if it can't be."""
    names = (*topology.SERVICES, OPERATOR)
    urls = {name: environment.get(url_variable(name), "") for name in names}
    admin = environment.get("RABBITMQ_ADMIN_USER"), environment.get("RABBITMQ_ADMIN_PASSWORD")
    try:
        shards = int(environment.get("SHARDS", "1"))
        made = definitions(urls, shards, (admin[0], admin[1]) if admin[0] and admin[1] else None)
    except (SettingsError, ValueError) as error:
        sys.stderr.write(f"bad setting: {error}\n")
        return 2
    Path(file).write_text(json.dumps(made, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ, *sys.argv[1:]))

import json
import re
import subprocess
import sys

import pytest

from phjob_core.errors import SettingsError
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.definitions import definitions, url_variable

URLS = {service: f"amqp://{service}:{service}-password@broker/phjob" for service in topology.SERVICES}


def test_the_definitions_contain_the_whole_topology() -> None:
    """Exchanges, queues with their arguments, and the bindings between them, for every shard."""
    made = definitions(URLS, shards=3)
    queues = {queue.name: queue for queue in topology.queues(3)}
    assert {queue["name"]: queue["arguments"] for queue in made["queues"]} == {
        **{name: queue.arguments for name, queue in queues.items()},
        topology.DEAD_LETTER_QUEUE: topology.DEAD_LETTER_ARGUMENTS,
    }
    assert {(binding["source"], binding["destination"]) for binding in made["bindings"]} == {
        *((queue.exchange, queue.name) for queue in queues.values()),
        (topology.DEAD_LETTER_QUEUE, topology.DEAD_LETTER_QUEUE),
    }
    exchanges = {exchange["name"] for exchange in made["exchanges"]}
    assert exchanges == {binding["source"] for binding in made["bindings"]}
    assert {thing["vhost"] for kind in ("queues", "exchanges", "bindings") for thing in made[kind]} == {
        "phjob"
    }


def test_a_permission_matches_whole_names_only() -> None:
    """A queue whose name starts like a service's belongs to another one, and a dot is no wildcard."""
    (scheduler,) = (p for p in definitions(URLS, 1)["permissions"] if p["user"] == "scheduler")
    assert re.search(scheduler["read"], "scheduler.12")
    assert not re.search(scheduler["read"], "scheduler.1.of-another")
    assert not re.search(scheduler["write"], "phjob-watcher")


def test_passwords_are_hashed() -> None:
    """The definitions are in a file, which must not contain the passwords."""
    text = json.dumps(definitions(URLS, 1, admin=("admin", "admin-password")))
    assert "-password" not in text.replace("rabbit_password_hashing_sha256", "").replace("password_hash", "")


def test_the_operator_may_replay_dead_letters_and_nothing_else() -> None:
    """There is an operator only if there is a URL for one."""
    made = definitions({**URLS, "operator": "amqp://olga:x@broker/phjob"}, 1)["permissions"]
    (olga,) = (permission for permission in made if permission["user"] == "olga")
    assert (olga["configure"], olga["read"]) == ("^$", r"^phjob\.dead$")
    assert not re.search(olga["write"], "phjob.dead")
    assert all(re.search(olga["write"], topology.exchange_of(service)) for service in topology.SERVICES)
    assert len(made) == len(definitions(URLS, 1)["permissions"]) + 1


def test_two_services_with_one_user_are_rejected() -> None:
    """The user would have the permissions of only one of them."""
    with pytest.raises(SettingsError, match="each needs one of its own"):
        definitions(dict.fromkeys(URLS, URLS[topology.WATCHER]), 1)


def test_two_virtual_hosts_are_rejected() -> None:
    """The services could not exchange messages."""
    with pytest.raises(SettingsError, match="different virtual hosts: elsewhere, phjob"):
        definitions({**URLS, topology.JANITOR: "amqp://janitor:x@broker/elsewhere"}, 1)


def test_a_url_without_a_password_is_rejected_with_the_name_of_its_variable() -> None:
    """On the command line, in one line."""
    environment = {url_variable(service): url for service, url in URLS.items()}
    environment["POD_MANAGER_AMQP_URL"] = "amqp://broker/phjob"
    command = [sys.executable, "-m", "phjob_runtime.amqp.definitions"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bad setting: POD_MANAGER_AMQP_URL: the URL needs a user and a password\n"

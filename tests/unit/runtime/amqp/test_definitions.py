import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phjob_core.errors import SettingsError
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.definitions import definitions, main, url_variable

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
    made = definitions({**URLS, "operator": "amqp://operator:x@broker/phjob"}, 1)
    (operator,) = (permission for permission in made["permissions"] if permission["user"] == "operator")
    assert (operator["configure"], operator["read"]) == ("^$", r"^phjob\.dead$")
    assert not re.search(operator["write"], "phjob.dead")
    assert all(re.search(operator["write"], topology.exchange_of(service)) for service in topology.SERVICES)
    assert len(made["permissions"]) == len(definitions(URLS, 1)["permissions"]) + 1


def test_only_the_operator_may_publish_in_the_name_of_others() -> None:
    """For a replay (spec.md, E6)."""
    made = definitions({**URLS, "operator": "amqp://operator:x@broker/phjob"}, 1, admin=("admin", "x"))
    assert {user["name"]: user["tags"] for user in made["users"]} == {
        **{service: [] for service in topology.SERVICES},
        "operator": ["impersonator"],
        "admin": ["administrator"],
    }


def test_two_services_with_one_user_are_rejected() -> None:
    """The user would have the permissions of only one of them."""
    with pytest.raises(SettingsError, match="'watcher' must be named 'scheduler'"):
        definitions(dict.fromkeys(URLS, URLS[topology.WATCHER]), 1)


def test_users_may_have_a_common_prefix() -> None:
    """For several installations on one broker."""
    urls = {service: f"amqp://hub-{service}:x@broker/phjob" for service in (*topology.SERVICES, "operator")}
    assert {user["name"] for user in definitions(urls, 1)["users"]} == {f"hub-{service}" for service in urls}


@pytest.mark.parametrize(
    ("service", "user", "problem"),
    [
        ("watcher", "bob", r"WATCHER_AMQP_URL: the user 'bob' must be named watcher, or end in it"),
        ("pod-manager", "bob", r"POD_MANAGER_AMQP_URL: the user 'bob' must be named 'pod-manager', because"),
        ("operator", "phjob-operator", r"OPERATOR_AMQP_URL: .* must be named 'operator'"),
    ],
)
def test_a_user_that_is_named_otherwise_is_rejected(service: str, user: str, problem: str) -> None:
    """A receiver tells the publishers by their users (spec.md, E6)."""
    with pytest.raises(SettingsError, match=problem):
        definitions({**URLS, service: f"amqp://{user}:x@broker/phjob"}, 1)


@pytest.mark.parametrize("password", ["xx/ss", "99/34", "xx#ss", "xx?ss"])
def test_a_url_whose_password_is_not_encoded_is_rejected_without_it(password: str) -> None:
    """A part of it would be taken for a port or a virtual host."""
    with pytest.raises(SettingsError, match="JANITOR_AMQP_URL: ") as error:
        definitions({**URLS, "janitor": f"amqp://janitor:{password}@broker/phjob"}, 1)
    assert password[:2] not in str(error.value)


def test_the_urls_may_come_from_files(tmp_path: Path) -> None:
    """As the chart mounts its Secret. The operator's and the administrator's are optional."""
    environment = {}
    for service, url in URLS.items():
        (tmp_path / service).write_text(f"{url}\n")
        environment[f"{url_variable(service)}_FILE"] = str(tmp_path / service)
    environment |= {
        "OPERATOR_AMQP_URL_FILE": str(tmp_path / "operator"),
        "RABBITMQ_ADMIN_USER": "admin",
        "RABBITMQ_ADMIN_PASSWORD_FILE": str(tmp_path / "admin-password"),
    }
    made = tmp_path / "definitions.json"
    assert main(environment, str(made)) == 0
    assert {user["name"] for user in json.loads(made.read_text())["users"]} == set(URLS)
    (tmp_path / "admin-password").write_text("secret")
    assert main(environment, str(made)) == 0
    assert {user["name"] for user in json.loads(made.read_text())["users"]} == {*URLS, "admin"}


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

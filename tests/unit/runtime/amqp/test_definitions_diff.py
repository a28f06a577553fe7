"""The comparison of definitions: what an operator has to correct in RabbitMQ."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from phjob_runtime.amqp import topology
from phjob_runtime.amqp.definitions import definitions, main, url_variable
from phjob_runtime.amqp.definitions_diff import differences

URLS = {service: f"amqp://{service}:x@broker/phjob" for service in topology.SERVICES}


@pytest.fixture
def actual() -> dict[str, Any]:
    """What a RabbitMQ has into which the definitions were imported, beside another virtual host."""
    made: dict[str, Any] = copy.deepcopy(definitions(URLS, 1))
    other = copy.deepcopy(made["queues"][0])
    made["queues"].append({**other, "vhost": "other", "arguments": {}})
    made["permissions"].append({"user": "bob", "vhost": "other", "configure": "", "write": "", "read": ""})
    made["policies"] = [{"vhost": "other", "name": "p", "pattern": ".*", "definition": {}}]
    made["parameters"] = []
    return made


def found(actual: dict[str, Any]) -> list[str]:
    return list(differences(definitions(URLS, 1), actual))


def test_imported_definitions_do_not_differ(actual: dict[str, Any]) -> None:
    """Whatever else the broker has in other virtual hosts."""
    assert found(actual) == []


def test_a_missing_object_is_named(actual: dict[str, Any]) -> None:
    """Definitions of fewer shards lack queues."""
    lines = list(differences(definitions(URLS, 2), actual))
    assert "the queue 'scheduler.1' is missing" in lines
    assert "the binding of 'scheduler.1' to 'phjob.scheduler' with the key 'scheduler.1' is missing" in lines
    assert all("1'" in line for line in lines)


def test_each_argument_that_differs_is_named(actual: dict[str, Any]) -> None:
    """A queue of an earlier release keeps its arguments."""
    watcher = actual["queues"][0]["arguments"]
    watcher["x-max-length"] = 5
    del watcher["x-overflow"]
    watcher["x-expires"] = 1000
    assert found(actual) == [
        "the queue 'watcher': x-expires is 1000, not null",
        f"the queue 'watcher': x-max-length is 5, not {topology.MAX_QUEUE_MESSAGES}",
        "the queue 'watcher': x-overflow is null, not \"reject-publish\"",
    ]


def test_a_wider_permission_is_named(actual: dict[str, Any]) -> None:
    """And so is a user that the definitions do not have."""
    actual["permissions"][0]["write"] = ".*"
    every = {"configure": ".*", "write": ".*", "read": ".*"}
    actual["permissions"].append({"user": "mallory", "vhost": "phjob", **every})
    first, second = found(actual)
    assert first.startswith('the permission of the user \'watcher\': write is ".*", not "^(')
    assert second == "the permission of the user 'mallory' is not PhJob's"


def test_a_binding_that_copies_messages_is_named(actual: dict[str, Any]) -> None:
    """Somebody may read them in another queue."""
    binding = {**actual["bindings"][0], "destination": "spy"}
    actual["bindings"].append(binding)
    source, key = binding["source"], binding["routing_key"]
    assert found(actual) == [f"the binding of 'spy' to {source!r} with the key {key!r} is not PhJob's"]


@pytest.mark.parametrize("is_operators", [False, True])
def test_a_policy_on_a_queue_is_named(actual: dict[str, Any], is_operators: bool) -> None:  # noqa: FBT001
    """It has priority over the arguments, or limits them."""
    policy = {"pattern": "^scheduler", "apply-to": "queues", "definition": {"max-length": 5}}
    if is_operators:
        parameter = {"component": "operator_policy", "vhost": "phjob", "name": "small", "value": policy}
        actual["parameters"].append(parameter)
    else:
        actual["policies"].append({"vhost": "phjob", "name": "small", **policy})
    assert found(actual) == ["the policy 'small' changes scheduler.0: {\"max-length\": 5}"]


def test_the_command_prints_the_differences_and_the_remedy(
    actual: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1, or 0 and no line."""
    environment, export = {url_variable(service): url for service, url in URLS.items()}, tmp_path / "export"
    export.write_text(json.dumps(actual))
    assert main(environment, "--compare", str(export)) == 0
    assert capsys.readouterr().out == ""
    assert main({**environment, "SHARDS": "2"}, "--compare", str(export)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "the queue 'janitor.1' is missing" in lines
    assert lines[-1].startswith("An import adds what is missing.")

"""The differences between an installation's definitions and those that RabbitMQ has. Pure.

RabbitMQ keeps a queue as it was first declared: an import does not change it. A policy of the broker can
change it afterwards. A service may see neither, because RabbitMQ shows the arguments of a queue only to users
who may declare it. So an operator compares an export of `rabbitmqctl` (`definitions --compare`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Definitions = Mapping[str, Any]
"""RabbitMQ's definitions, in its own format."""
_Entries = dict[tuple[str, ...], Mapping[str, Any]]

_KEYS = {
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination", "routing_key"),
    "permissions": ("vhost", "user"),
}
"""The fields that identify an object, by its kind."""
_COMPARED = {
    "exchanges": ("type", "durable", "auto_delete", "arguments"),
    "queues": ("durable", "auto_delete", "arguments"),
    "bindings": (),
    "permissions": ("configure", "write", "read"),
}
"""The fields that have to be equal, by the kind of the object."""


def differences(expected: Definitions, actual: Definitions) -> Iterator[str]:
    """Yield a line for each difference in the virtual host of the expected definitions."""
    (vhost,) = (vhost["name"] for vhost in expected["vhosts"])
    for kind in _KEYS:
        wanted, found = (_entries(given.get(kind, ()), kind, vhost) for given in (expected, actual))
        for key, fields in wanted.items():
            if key not in found:
                yield f"{_name(kind, key)} is missing"
            else:
                yield from _field_differences(_name(kind, key), kind, fields, found[key])
        # Another binding copies messages to somebody, and another user may send some.
        for key in found.keys() - wanted.keys() if kind in ("bindings", "permissions") else ():
            yield f"{_name(kind, key)} is not PhJob's"
    yield from _policy_differences(expected, actual, vhost)


def _entries(objects: Iterable[Mapping[str, Any]], kind: str, vhost: str) -> _Entries:
    return {
        tuple(str(one[field]) for field in _KEYS[kind][1:]): one for one in objects if one["vhost"] == vhost
    }


def _field_differences(
    name: str, kind: str, wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[str]:
    for field in _COMPARED[kind]:
        if field != "arguments":
            if wanted[field] != found[field]:
                yield f"{name}: {field} is {json.dumps(found[field])}, not {json.dumps(wanted[field])}"
            continue
        for argument in sorted(wanted[field].keys() | found[field].keys()):
            values = [json.dumps(given[field].get(argument)) for given in (found, wanted)]
            if values[0] != values[1]:
                yield f"{name}: {argument} is {values[0]}, not {values[1]}"


def _policy_differences(expected: Definitions, actual: Definitions, vhost: str) -> Iterator[str]:
    """Yield a line for each queue that a policy changes."""
    policies = [*actual.get("policies", ())]
    policies += [
        {"vhost": parameter["vhost"], "name": parameter["name"], **parameter["value"]}
        for parameter in actual.get("parameters", ())
        if parameter["component"] == "operator_policy"
    ]
    for policy in policies:
        if policy["vhost"] != vhost or policy.get("apply-to") == "exchanges":
            continue
        names = [queue["name"] for queue in expected["queues"] if re.search(policy["pattern"], queue["name"])]
        if names:
            definition = json.dumps(policy["definition"])
            yield f"the policy {policy['name']!r} changes {', '.join(names)}: {definition}"


def _name(kind: str, key: tuple[str, ...]) -> str:
    match kind:
        case "permissions":
            return f"the permission of the user {key[0]!r}"
        case "bindings":
            return f"the binding of {key[1]!r} to {key[0]!r} with the key {key[2]!r}"
    return f"the {kind.removesuffix('s')} {key[0]!r}"

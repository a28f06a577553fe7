"""The page of the settings, made from the pydantic models of the services."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from dev.docs.markdown import attribute_docstrings, code, prose, table
from phjob_runtime.settings import ClusterSettings, JobSubmission, LogArchive, ServiceSettings

_SECTIONS: dict[str, type[BaseModel]] = {"jobSubmission": JobSubmission, "logArchive": LogArchive}
_HEAD = ("Default", "Bounds", "Meaning")
_Row = tuple[str, str, str, str]

_PAGE = """\
# Settings

For operators: the settings file and the environment of the services. `k8s/chart/values.yaml` has
the values of the Helm chart. The chart writes the settings file, and sets the environment.

`make docs` generates this page from the models that read the settings. A value that does not fit
stops the service at once, and the message names the key ([spec, S6](../spec.md#s6)).

## Settings file

The file is YAML, and all services read it. Its keys are those of the chart's values and of
PrimeHub's Helm chart. Other keys at the top level are ignored. Times are in seconds.

{file}

The credentials and the endpoint of the log archive come from the environment of pod-manager, by the
provider's own names, such as `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT_URL`.

## Environment

### All services

{environment}

### watcher and pod-manager

{cluster}

The scheduler and the janitor have no credentials for Kubernetes.
"""


def page() -> str:
    """Return the whole page."""
    file = [row for section, model in _SECTIONS.items() for row in _rows(model, f"{section}.{{}}".format)]
    common = list(_rows(ServiceSettings, str.upper))
    cluster = [row for row in _rows(ClusterSettings, str.upper) if row not in common]
    return _PAGE.format(
        file=table(("Key", *_HEAD), file),
        environment=table(("Variable", *_HEAD), common),
        cluster=table(("Variable", *_HEAD), cluster),
    )


def _rows(model: type[BaseModel], to_key: Callable[[str], str]) -> Iterator[_Row]:
    """Yield a row for each field. `to_key` returns the key that an operator writes."""
    schema = model.model_json_schema(by_alias=True)["properties"]
    docstrings = attribute_docstrings(model)
    for name, field in model.model_fields.items():
        key = field.alias or name
        yield code(to_key(key)), _default(schema[key]), _bounds(schema[key]), prose(docstrings.get(name, ""))


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default is None:
        return "none"
    return code(default if isinstance(default, str) and default else json.dumps(default))


def _bounds(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f"{least:,} to {most:,}"
    if least is not None:
        return f"at least {least:,}"
    if words := schema.get("enum"):
        return ", ".join(code(word) for word in words)
    if pattern := schema.get("pattern"):
        return ", ".join(code(word) for word in pattern.strip("^()$").split("|"))
    return ""

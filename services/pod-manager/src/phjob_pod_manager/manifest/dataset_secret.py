"""The Secret of a dataset of type `env`: its variables, which a pod only refers to (spec.md, P8). Pure.

Whoever may read pods could otherwise read the values. `dataset_secrets` writes the Secret.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any

from phjob_core.api import API_VERSION, Object

SECRET_TYPE = "primehub.io/dataset"  # noqa: S105 - a type
"""The type of the Secrets. The API server never changes the type of a Secret.

Therefore it rejects a write to a Secret of the same name that belongs to somebody else.
"""
_PREFIX = "phjob-dataset-"
_MAX_NAME_CHARS = 253
_MAX_KEY_CHARS = 253
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
"""The variable names that PrimeHub accepts. It drops any other, and so does PhJob."""


@dataclass(frozen=True)
class SecretKey:
    """A key of a Secret, from which a variable takes its value."""

    secret: str
    key: str

    def manifest(self) -> dict[str, Any]:
        """Return the source of a container's variable."""
        return {"secretKeyRef": {"name": self.secret, "key": self.key}}


def secret_name(dataset: str) -> str | None:
    """Return the name of the dataset's Secret; None if it would be too long."""
    name = f"{_PREFIX}{dataset}"
    return name if len(name) <= _MAX_NAME_CHARS else None


def variables(dataset: Object) -> tuple[dict[str, str], list[str]]:
    """Return the values by variable, `<DATASET>_<KEY>`, and the names that are not valid."""
    values, invalid = {}, []
    for key, value in (dataset["spec"].get("variables") or {}).items():
        variable = f"{dataset['metadata']['name']}_{key}".upper()
        if key == "__typename":  # PrimeHub's console leaves it in its objects.
            continue
        if _VARIABLE.fullmatch(variable) and len(variable) <= _MAX_KEY_CHARS:
            values[variable] = _text(value)
        else:
            invalid.append(variable)
    return values, invalid


def secret(dataset: Object) -> Object | None:
    """Return the manifest of the dataset's Secret; None if it needs none."""
    metadata = dataset["metadata"]
    name = secret_name(metadata["name"])
    values, _ = variables(dataset)
    if dataset["spec"]["type"] != "env" or not values or name is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": {"app": "primehub-dataset"},
            # Kubernetes deletes the Secret with its Dataset.
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "Dataset",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                }
            ],
        },
        "type": SECRET_TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def _text(value: Any) -> str:
    """Return a variable's value as text; a boolean in lower case, as in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The bounds of all fields, and the errors of the API server as docs/errors.md quotes them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.crds.manifests import CRDS, ERRORS, EXAMPLES, answer, example, job, read, set_phase
from tests.support.cluster import Kubectl


def test_a_command_has_at_most_256_kib(kubectl: Kubectl, namespace: str) -> None:
    """Bytes count, not characters. docs/errors.md quotes each error."""
    for name, command in (("ascii", "x" * 262144), ("accents", "é" * 131072)):
        assert kubectl("create", "-f", "-", input=job(namespace, name, command=command)).returncode == 0
        assert read(kubectl, namespace, f"phj/{name}")["spec"]["command"] == command
    for verb, command in (("create", "x" * 262145), ("create", "é" * 131073), ("apply", "x" * 262144)):
        done = kubectl(verb, "-f", "-", input=job(namespace, command=command))
        assert done.returncode == 1
        assert f"```text\n{answer(done)}\n```" in ERRORS
    assert (
        kubectl("apply", "--server-side", "-f", "-", input=job(namespace, command="x" * 262144)).returncode
        == 0
    )


def documented_commands() -> Iterator[Any]:
    """Yield the console blocks of the first part of docs/errors.md, with their headings as test ids."""
    part = ERRORS.split("\n## What the API server answers\n")[1].split("\n## ")[0]
    for section in part.split("\n### ")[1:]:
        heading, _, text = section.partition("\n")
        for block in re.findall(r"```console\n(.*?)\n```", text, re.DOTALL):
            yield pytest.param(block, id=heading)


@pytest.mark.parametrize("block", list(documented_commands()))
def test_the_documented_answer_is_that_of_the_api_server(
    kubectl: Kubectl, namespace: str, block: str
) -> None:
    """Each `$ kubectl` of the page is run as printed, with the examples and a running job-qm42d.

    Lines may be in another order, because the API server checks fields in no particular one.
    """
    kubectl(
        "apply",
        "-f",
        "-",
        input="\n---\n".join(example(file.name, namespace) for file in sorted(EXAMPLES.glob("*.yaml"))),
    )
    set_phase(kubectl, namespace, "job-qm42d", "Running")
    for step in re.split(r"^\$ kubectl ", block, flags=re.MULTILINE)[1:]:
        line, _, rest = step.partition("\n")
        command, heredoc, _ = line.partition(" <<'EOF'")
        manifest, _, expected = rest.partition("\nEOF\n") if heredoc else ("", "", rest)
        arguments = [namespace if word == "hub" else word for word in shlex.split(command)]
        done = kubectl(*arguments, input=manifest.replace("namespace: hub", f"namespace: {namespace}"))
        assert sorted(answer(done).splitlines()) == sorted(expected.strip().splitlines())


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema node below this one, with its path."""
    for name, node in schema.get("properties", {}).items():
        yield f"{path}.{name}", node
        yield from fields(node, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield path + mark, schema[key]
            yield from fields(schema[key], path + mark)


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_field_is_described_and_has_a_bound(file: Path) -> None:
    """`kubectl explain` describes it, and no single field can fill etcd."""
    bounds = {
        "string": ("maxLength", "enum", "format"),
        "integer": ("maximum",),
        "array": ("maxItems",),
        "": ("maxLength",),
    }
    for path, node in fields(
        yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"], file.stem
    ):
        if ".metadata" in path:
            continue
        kind = node.get("type", "")
        assert "description" in node or path.endswith(("[]", "{}")), f"{path} must have a description"
        has_bound = kind in ("object", "boolean") or any(bound in node for bound in bounds[kind])
        assert has_bound, f"{path} must have one of {bounds.get(kind)}"
        assert "additionalProperties" not in node or "maxProperties" in node, (
            f"{path} must have maxProperties"
        )

"""The types of settings that are more than a number or a text. Pure.

Each rejects at the start of a service what the API server would reject in the pod of every job.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AmqpDsn,
    BaseModel,
    ConfigDict,
    Field,
    UrlConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from phjob_core import quantities
from phjob_core.api import GROUP, OWN_VARIABLES

_APP_LABEL = "app"
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""The name part of a label's or an annotation's key, and the value of a label."""
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_DOMAIN_CHARS = 253
_SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _quantity(text: str) -> str:
    try:
        quantities.parse(quantities.MEMORY, text)
    except quantities.QuantityError as error:
        raise ValueError(str(error)) from error
    return text


def _optional_quantity(text: str) -> str:
    return text and _quantity(text)


def _broker_url(url: AmqpDsn) -> AmqpDsn:
    """Reject a URL whose password was cut off, because it has a character that begins another part.

    Without this, errors about the connection would show a part of the password as host, port or vhost.
    """
    if url.fragment is not None or "@" in f"{url.path}{url.query}":
        raise ValueError("the user or the password has a /, ?, # or @: write %2F, %3F, %23 or %40 instead")
    return url


def _archive_url(url: str) -> str:
    """Reject a URL without a folder or bucket, and one with a login.

    Every user reads it in `status.logURL`.
    """
    if "@" in url or "?" in url:
        raise ValueError("it must not contain a login: pod-manager reads that from its environment")
    if url and not url.partition("://")[2].strip("/"):
        raise ValueError("it names no folder or bucket: write file:///folder, s3://bucket, gs:// or az://")
    return url


def _object_name(text: str) -> str:
    if len(text) > _MAX_DOMAIN_CHARS or not _DOMAIN.fullmatch(text):
        raise ValueError("not the name of a Kubernetes object: write lower-case letters, digits, '-' and '.'")
    return text


def _optional_object_name(text: str) -> str:
    return text and _object_name(text)


def _annotations(values: Mapping[str, str]) -> Mapping[str, str]:
    for key in values:
        domain, separator, name = key.rpartition("/")
        if not _NAME.fullmatch(name) or (separator and not _DOMAIN.fullmatch(domain)):
            msg = f"{key!r} is not a valid key: write a name such as team, or example.com/team"
            raise ValueError(msg)
        if domain == GROUP:
            msg = f"{key!r} is PhJob's own: choose a key without the prefix {GROUP}/"
            raise ValueError(msg)
    return values


def _labels(values: Mapping[str, str]) -> Mapping[str, str]:
    _annotations(values)
    for key, value in values.items():
        if key == _APP_LABEL:
            msg = f"{key!r} is PhJob's own: choose another key"
            raise ValueError(msg)
        if value and not _NAME.fullmatch(value):
            msg = f"{value!r} is not a value of a label: write at most 63 letters, digits, '-', '_' or '.'"
            raise ValueError(msg)
    return values


def _variable_name(name: str) -> str:
    if not _SHELL_VARIABLE.fullmatch(name):
        raise ValueError("not a name that a shell can use: write letters, digits and '_'")
    if name in OWN_VARIABLES:
        remedy = "use jobSubmission.timezone" if name == "TZ" else "choose another name"
        msg = f"PhJob sets this variable itself: {remedy}"
        raise ValueError(msg)
    return name


Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
NamePattern = Annotated[str, Field(pattern=r"^[-a-z0-9.*?]+$")]
BrokerUrl = Annotated[AmqpDsn, UrlConstraints(host_required=True), AfterValidator(_broker_url)]
ArchiveUrl = Annotated[str, AfterValidator(_archive_url)]
Quantity = Annotated[str, AfterValidator(_quantity)]
OptionalQuantity = Annotated[str, AfterValidator(_optional_quantity)]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
ObjectName = Annotated[str, AfterValidator(_optional_object_name)]
"""The name of a Kubernetes object; empty: none."""
Annotations = Annotated[dict[str, str], AfterValidator(_annotations)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
Pattern = Annotated[str, Field(min_length=1)]
"""A pattern for `fnmatch`."""
ResourcePattern = Annotated[str, Field(pattern=r"^!?[-A-Za-z0-9._*?\[\]]+/[-A-Za-z0-9._*?\[\]]+$")]
"""A pattern for `fnmatch` of the names of extended resources; with `!`, of those that it does not mean."""
SecurityProfile = Literal["baseline", "restricted", "sudo"]


class _Item(BaseModel):
    """The base of an item of a list, with Kubernetes' own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    def manifest(self) -> dict[str, Any]:
        """Return the item as it is in a manifest."""
        return self.model_dump(by_alias=True, exclude_none=True)


class SecretName(_Item):
    """A reference to a Secret."""

    name: Annotated[str, AfterValidator(_object_name)]


class Variable(_Item):
    """An environment variable of a container."""

    name: Annotated[str, AfterValidator(_variable_name)]
    value: str | None = None
    value_from: dict[str, Any] | None = None

    @field_validator("value_from")
    @classmethod
    def _is_only_source(cls, source: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if source is not None and info.data.get("value") is not None:
            raise ValueError("a variable has either value or valueFrom: remove one of them")
        return source

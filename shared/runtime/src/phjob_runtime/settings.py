"""Settings: a service's environment (`ServiceSettings`), and the settings file (`SettingsFile`).

The file has the keys and names of PrimeHub's Helm values (spec.md, S5, S6). A bad setting stops the service
at once, with a message that names the key. Nothing is read at import.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, AmqpDsn, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, SettingsConfigDict

from phjob_core import quantities
from phjob_core.errors import SettingsError


def _quantity(text: str) -> str:
    try:
        quantities.parse(quantities.MEMORY, text)
    except quantities.QuantityError as error:
        raise ValueError(str(error)) from error
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]


class JobSubmission(BaseModel):
    """The limits and defaults of jobs: `jobSubmission.*` of the settings file.

    Times are in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    default_active_deadline_seconds: Seconds = 86400
    """The time a job may run if neither the job nor its group sets one; 0: unlimited (spec.md, L8)."""
    default_ttl_seconds_after_finished: Seconds = Field(604800, alias="defaultTTLSecondsAfterFinished")
    """The time a finished job's pod is kept; 0: forever (spec.md, L10)."""
    preparing_timeout_seconds: Annotated[int, Field(ge=1)] = 180
    """The time a pod has to start before its job is requeued (spec.md, Q5)."""
    node_lost_grace_seconds: Seconds = 0
    """The time a node may be unresponsive before its jobs fail; 0: unlimited (spec.md, L12)."""
    history_ttl_seconds: Seconds = Field(0, alias="historyTTLSeconds")
    """The time a finished job is kept; 0: forever (spec.md, L11)."""
    history_limit: Annotated[int, Field(ge=0)] = 0
    """The number of finished jobs that are kept, the newest of all groups; 0: all (spec.md, L11)."""
    working_dir_size: Quantity = "5Gi"
    """The size of `/home/jovyan` (spec.md, P6)."""
    grant_sudo: bool = False
    """True if a command may gain privileges, as with sudo. The default is the safer value."""
    timezone: str = ""
    """The time zone of the commands, as `TZ`; empty: the image's own."""
    node_selector: dict[str, str] = {}
    """The node labels that every job's pod requires (spec.md, P11)."""
    affinity: dict[str, Any] = {}
    """The affinity of every job's pod."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """The tolerations of every job's pod."""


class LogArchive(BaseModel):
    """The archive of the logs of deleted pods: `logArchive.*` of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    url: str = ""
    """`file:///folder`, `s3://bucket/prefix`, `gs://...`, `az://...`; empty: no archive.

    Credentials and endpoint come from the environment, by the provider's own names (`AWS_...`).
    """
    max_bytes: Annotated[int, Field(ge=4096)] = 1024**3
    """The maximum size of an archived log. Of a longer log, the beginning and the end are kept."""


class SettingsFile(BaseModel):
    """The settings file.

    It may contain the keys of other parts of PrimeHub, which are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    job_submission: JobSubmission = JobSubmission()
    log_archive: LogArchive = LogArchive()


class ServiceSettings(BaseSettings):
    """The environment of every service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    amqp_url: AmqpDsn = Field(default=AmqpDsn("amqp://guest:guest@localhost:5672/"))
    """The URL of RabbitMQ."""
    amqp_declare: bool = True
    """True to declare the exchanges and queues; false if RabbitMQ's definitions contain them."""
    namespace: str = "hub"
    """The namespace of jobs and pods. The default is PrimeHub's own."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    """The number of shards, which is the same for every service."""
    shard: Annotated[int, Field(ge=0)] = 0
    """The index of this process's shard."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port of /healthz, /readyz and /metrics; 0: any free port."""
    http_host: str = "127.0.0.1"
    """The address of that port; 0.0.0.0 in a container."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    settings_file: Path | None = None
    """The path of the settings file; None: PrimeHub's defaults."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: a value does not fit. The message names the variable.

        """
        try:
            settings = cls()
        except ValidationError as error:
            raise SettingsError(_explain(error, "environment", str.upper)) from error
        if settings.shard >= settings.shards:
            msg = f"SHARD is {settings.shard}, but SHARDS is {settings.shards}: use 0 to SHARDS-1"
            raise SettingsError(msg)
        return settings

    def file(self) -> SettingsFile:
        """Read the settings file.

        Raises:
            SettingsError: the file cannot be read, or a value does not fit. The message names the key.

        """
        if self.settings_file is None:
            return SettingsFile()
        source = f"settings file {self.settings_file}"
        try:
            content = yaml.safe_load(self.settings_file.read_text())
        except OSError as error:
            msg = f"{source} can't be read: {error.strerror}"
            raise SettingsError(msg) from error
        except yaml.YAMLError as error:
            msg = f"{source} is not YAML: {error}"
            raise SettingsError(msg) from error
        try:
            return SettingsFile.model_validate({} if content is None else content)
        except ValidationError as error:
            raise SettingsError(_explain(error, source)) from error


class ClusterSettings(ServiceSettings):
    """The environment of a service that uses the Kubernetes API."""

    kubeconfig: Path | None = None
    """The path of a kubeconfig; None: the cluster that the process runs in."""


_WITH_PASSWORD = re.compile(r"(//[^/@\s\"]*:)[^/\s\"]*@")
"""The part of a URL that has a password."""


def _explain(error: ValidationError, source: str, format_key: Callable[[str], str] = lambda key: key) -> str:
    """Return the message for invalid settings: each key, the problem, and the value."""
    parts = []
    for detail in error.errors():
        key = format_key(".".join(str(part) for part in detail["loc"]))
        value = _WITH_PASSWORD.sub(r"\1***@", json.dumps(detail["input"], default=str))
        parts.append(f"{key}: {detail['msg']} (is {value})")
    return f"{source}: " + "; ".join(parts)

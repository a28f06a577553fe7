"""Settings: how a service finds its neighbours (environment), and how jobs are treated (a file).

The file has the keys and names of PrimeHub's Helm values (contract.md, Configuration). A bad
setting stops the service at once and names the key. Nothing is read at import.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, AmqpDsn, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import resources
from shared.errors import SettingsError


def _quantity(text: str) -> str:
    try:
        resources.parse(resources.MEMORY, text)
    except resources.QuantityError as error:
        raise ValueError(str(error)) from error
    return text


Quantity = Annotated[str, AfterValidator(_quantity)]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]


class JobSubmission(BaseModel):
    """How jobs are treated: `jobSubmission.*` of the settings file. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    default_active_deadline_seconds: Seconds = 86400
    """How long a job may run if neither it nor its group says; 0: for ever (seed, Timeout)."""
    default_ttl_seconds_after_finished: Seconds = Field(604800, alias="defaultTTLSecondsAfterFinished")
    """How long a finished job's pod stays; 0: for ever (seed, Pod TTL After Finished)."""
    preparing_timeout_seconds: Annotated[int, Field(ge=1)] = 180
    """How long a pod may take to start before the job is requeued (seed, Requeue)."""
    node_lost_grace_seconds: Seconds = 0
    """How long a node may be unresponsive before its jobs fail; 0: for ever (seed, FAQ: lost node)."""
    history_ttl_seconds: Seconds = Field(0, alias="historyTTLSeconds")
    """How long a finished job's record stays; 0: for ever."""
    history_limit: Annotated[int, Field(ge=0)] = 0
    """How many finished jobs' records stay, of all groups together, the newest; 0: all."""
    working_dir_size: Quantity = "5Gi"
    """Size of `/home/jovyan` (seed, Working Directory Size)."""
    grant_sudo: bool = False
    """Whether a command may gain privileges, as with sudo; off: the safer default."""
    timezone: str = ""
    """The commands' time zone, as `TZ`; none: the image's own."""
    node_selector: dict[str, str] = {}
    """Node labels for every job's pod (seed, Default Pod Scheduling)."""
    affinity: dict[str, Any] = {}
    """Affinity of every job's pod."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Tolerations of every job's pod."""


class LogArchive(BaseModel):
    """Where the logs of jobs are kept when their pods are gone: `logArchive.*` of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    url: str = ""
    """`file:///folder`, `s3://bucket/prefix`, `gs://...`, `az://...`; empty: nowhere.

    Credentials and endpoint come from the environment, by the provider's own names (`AWS_...`).
    """
    max_bytes: Annotated[int, Field(ge=4096)] = 1024**3
    """The most that is kept of one log; of a longer one, its beginning and its end."""


class File(BaseModel):
    """The settings file. Keys of PrimeHub's other parts may stand beside ours."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    job_submission: JobSubmission = JobSubmission()
    log_archive: LogArchive = LogArchive()


class ServiceSettings(BaseSettings):
    """What every service takes from its environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    amqp_url: AmqpDsn = Field(default=AmqpDsn("amqp://guest:guest@localhost:5672/"))
    """Where RabbitMQ is."""
    amqp_declare: bool = True
    """Whether to make the exchanges and queues; off where RabbitMQ's definitions have made them."""
    namespace: str = "hub"
    """The namespace of jobs and pods; PrimeHub's own by default."""
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    """Into how many parts the groups are divided; the same for every service."""
    shard: Annotated[int, Field(ge=0)] = 0
    """Which part this process serves."""
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /healthz, /readyz and /metrics; 0: any free one."""
    http_host: str = "127.0.0.1"
    """Address of the same; 0.0.0.0 in a container."""
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    settings_file: Path | None = None
    """The settings file; none: PrimeHub's defaults."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: a value does not fit; the text names the variable.

        """
        try:
            settings = cls()
        except ValidationError as error:
            raise SettingsError(_explain(error, "environment", str.upper)) from error
        if settings.shard >= settings.shards:
            msg = f"SHARD is {settings.shard}, but SHARDS is {settings.shards}: use 0 to SHARDS-1"
            raise SettingsError(msg)
        return settings

    def file(self) -> File:
        """Read the settings file.

        Raises:
            SettingsError: it can't be read or a value does not fit; the text names the key.

        """
        if self.settings_file is None:
            return File()
        where = f"settings file {self.settings_file}"
        try:
            content = yaml.safe_load(self.settings_file.read_text())
        except OSError as error:
            msg = f"{where} can't be read: {error.strerror}"
            raise SettingsError(msg) from error
        except yaml.YAMLError as error:
            msg = f"{where} is not YAML: {error}"
            raise SettingsError(msg) from error
        try:
            return File.model_validate({} if content is None else content)
        except ValidationError as error:
            raise SettingsError(_explain(error, where)) from error


def _explain(error: ValidationError, where: str, spell: Callable[[str], str] = lambda key: key) -> str:
    parts = []
    for detail in error.errors():
        key = spell(".".join(str(part) for part in detail["loc"]))
        value = json.dumps(detail["input"], default=str)
        parts.append(f"{key}: {detail['msg']} (is {value})")
    return f"{where}: " + "; ".join(parts)

"""Settings: a service's environment (`ServiceSettings`), and the settings file (`SettingsFile`).

The file has the keys and names of PrimeHub's Helm values (spec.md, S5, S6). A bad setting stops the service
at once, with a message that names the key. The log of a service has many readers, so no message contains a
URL, nor the value of an unknown key. Nothing is read at import.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AmqpDsn,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from phjob_core.api import RESERVED_NAMES, Notebooks
from phjob_core.errors import SettingsError
from phjob_core.gpus import GpuResources
from phjob_core.quantities import EPHEMERAL_STORAGE, parse
from phjob_runtime.setting_types import (
    Annotations,
    ArchiveUrl,
    BrokerUrl,
    Count,
    Labels,
    NamePattern,
    ObjectName,
    OptionalQuantity,
    Pattern,
    Quantity,
    ResourcePattern,
    Seconds,
    SecretName,
    SecurityProfile,
    Variable,
)

PRIMEHUB_NAMES = {"jobTTLSeconds": "historyTTLSeconds", "jobLimit": "historyLimit"}
"""The settings that have another name in PrimeHub, with the name that they have here."""
PRIMEHUB_ONLY = frozenset({"enabled", "artifact", "monitoring", "smtp", "phfsEnabled", "phfsPVC"})
"""The settings of PrimeHub's `jobSubmission` that concern other parts of it. They are ignored."""


class JobSubmission(BaseModel):
    """The limits and defaults of jobs: `jobSubmission.*` of the settings file.

    Times are in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    default_active_deadline_seconds: Seconds = 86400
    """The time a job may run if neither the job nor its group sets one; 0: unlimited (spec.md, L8)."""
    max_active_deadline_seconds: Seconds = 0
    """The cap of every job's deadline; 0: no cap (spec.md, L8)."""
    default_ttl_seconds_after_finished: Seconds = Field(604800, alias="defaultTTLSecondsAfterFinished")
    """The time a finished job's pod is kept; 0: forever (spec.md, L10)."""
    max_ttl_seconds_after_finished: Seconds = Field(0, alias="maxTTLSecondsAfterFinished")
    """The cap of the time that any finished job's pod is kept; 0: no cap (spec.md, L10)."""
    max_requeues: Count = 0
    """The cap of every job's `requeueLimit`; 0: no cap (spec.md, Q5)."""
    preparing_timeout_seconds: Annotated[int, Field(ge=1)] = 180
    """The time a pod has to start before its job is requeued (spec.md, Q5)."""
    pull_timeout_seconds: Annotated[int, Field(ge=1)] = 1800
    """The time a pod has instead while its image is still being pulled, if it is longer (spec.md, Q5)."""
    node_lost_grace_seconds: Seconds = 0
    """The time a node may be unresponsive before its jobs fail; 0: unlimited (spec.md, L12)."""
    history_ttl_seconds: Seconds = Field(2592000, alias="historyTTLSeconds")
    """The time a finished job is kept; 0: forever. PrimeHub's name: `jobTTLSeconds` (spec.md, L11)."""
    history_limit: Count = 4000
    """The number of finished jobs that a group keeps; 0: all. PrimeHub's name: `jobLimit` (spec.md, L11)."""
    never_ran_ttl_seconds: Seconds = Field(3600, alias="neverRanTTLSeconds")
    """The time a job is kept that ended without an admission; 0: as any other (spec.md, L11)."""
    max_pending: Count = 50000
    """The number of jobs of a group that may be Pending; 0: any number (spec.md, Q11)."""
    max_pending_per_user: Count = 10000
    """The number of jobs of a user that may be Pending in a group; 0: any number (spec.md, Q11)."""
    notebooks: Notebooks = "first"
    """Where gated pods of the pool wait: before all jobs, or in the order of creation (spec.md, Q14)."""
    max_command_bytes: Annotated[int, Field(ge=1, le=262144)] = 65536
    """The size of a command in UTF-8. The policy of the chart enforces it, not a service (spec.md, A15)."""
    reserved_names: tuple[NamePattern, ...] = RESERVED_NAMES
    """The patterns (`*`, `?`) of the names that no job may have (spec.md, Q4)."""
    gpu_resource_names: tuple[ResourcePattern, ...] = ()
    """Patterns (`*`, `?`, `[A-Z]`) of more resources that count as `gpu`; `!` excludes names (spec.md, S3).

    They follow the built-in patterns, and the last match counts. Example: `[example.com/*, "!amd.com/nic"]`.
    """
    working_dir_size: Quantity = "5Gi"
    """The size of `/home/jovyan` (spec.md, P6)."""
    ephemeral_storage: OptionalQuantity = Field("10Gi", validate_default=True)
    """The disk of its node that a job may use, unless its instance type has `limits.ephemeral-storage`.

    Empty: no limit. It includes `/home/jovyan`, the file system of the container and its log, and counts
    against the quotas (spec.md, P4).
    """
    grant_sudo: bool = False
    """PrimeHub's name for the security profile `sudo`."""
    termination_messages: bool = True
    """True if the message of a failed job quotes the last lines of its log, which more people may read."""
    security_profile: SecurityProfile = Field("baseline", validate_default=True)
    """The privileges of every job, unless its PhGroup has a profile of its own (spec.md, P10)."""
    fixed_ids: bool = True
    """True to name the ids of Jupyter's images in every pod: group 100, and in `restricted` user 1000.

    False where the namespace assigns ids, as in OpenShift, or where the images have other users.
    """
    group_profile: bool = False
    """True to source `/project/<group>/.primehub/profile` before each command, as PrimeHub does.

    Every member of a group who writes to its volume then runs code in the jobs of all its members.
    """
    timezone: str = ""
    """The time zone of the commands, as `TZ`; empty: the image's own."""
    node_selector: dict[str, str] = {}
    """The node labels that every job's pod requires (spec.md, P11)."""
    affinity: dict[str, Any] = {}
    """The affinity of every job's pod."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """The tolerations of every job's pod."""
    priority_class_name: ObjectName = ""
    """The PriorityClass of every job's pod; empty: the cluster's default."""
    runtime_class_name: ObjectName = ""
    """The RuntimeClass of every job's pod, such as gVisor's; empty: the cluster's default."""
    service_account_name: ObjectName = ""
    """The service account of every job's pod; empty: `default`. The pod never gets its token."""
    image_pull_secrets: tuple[SecretName, ...] = ()
    """The pull secrets of every job's pod, as `{name: ...}`, in addition to the Image's."""
    extra_env: tuple[Variable, ...] = Field((), repr=False)
    """Environment variables of every job, in Kubernetes' form: `{name: ..., value: ...}` (spec.md, P5)."""
    copy_annotations: tuple[Pattern, ...] = ("dev.primehub.io/*",)
    """Patterns of the annotations that are copied from a PhJob to its pod (spec.md, P2)."""
    pod_annotations: Annotations = {}
    """Annotations of every job's pod."""
    pod_labels: Labels = {}
    """Labels of every job's pod."""

    @model_validator(mode="before")
    @classmethod
    def _accept_primehubs_names(cls, given: Any) -> Any:
        """Replace PrimeHub's names, and drop its settings for other parts of it."""
        if not isinstance(given, dict):
            return given
        settings = {key: value for key, value in given.items() if key not in PRIMEHUB_ONLY}
        for theirs, ours in PRIMEHUB_NAMES.items():
            if theirs not in settings:
                continue
            value = settings.pop(theirs)
            if settings.setdefault(ours, value) != value:
                raise PydanticCustomError(
                    "two_names", "{theirs} and {ours} are the same setting: give one of the two",
                    {"theirs": theirs, "ours": ours},
                )  # fmt: skip
        return settings

    @field_validator("ephemeral_storage")
    @classmethod
    def _holds_working_dir(cls, size: str, info: ValidationInfo) -> str:
        working_dir_size = info.data.get("working_dir_size")
        if size and working_dir_size and _bytes(size) < _bytes(working_dir_size):
            msg = (
                f"it is less than workingDirSize, {working_dir_size}, so that the kubelet would evict a job "
                "before its working directory is full: raise ephemeralStorage, or make it empty for no limit"
            )
            raise ValueError(msg)
        return size

    @field_validator("security_profile")
    @classmethod
    def _agrees_with_grant_sudo(cls, profile: SecurityProfile, info: ValidationInfo) -> SecurityProfile:
        if info.data.get("grant_sudo"):
            if profile == "restricted":
                raise ValueError("grantSudo: true means the profile sudo; remove one of the two settings")
            return "sudo"
        return profile

    @property
    def gpus(self) -> GpuResources:
        """Return the resources that count as `gpu`."""
        return GpuResources(self.gpu_resource_names)

    @property
    def default_limits(self) -> dict[str, int]:
        """Return the limits of a job for the resources that its instance type does not name."""
        return {EPHEMERAL_STORAGE: _bytes(self.ephemeral_storage)} if self.ephemeral_storage else {}


def _bytes(size: str) -> int:
    return parse(EPHEMERAL_STORAGE, size)


class LogArchive(BaseModel):
    """The archive of the logs of deleted pods: `logArchive.*` of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    url: ArchiveUrl = Field("", repr=False)
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

    amqp_url: BrokerUrl = Field(default=AmqpDsn("amqp://guest:guest@localhost:5672/"), repr=False)
    """The URL of RabbitMQ, for a machine of one user: other processes may read an environment."""
    amqp_url_file: Path | None = None
    """The path of a file with the URL of RabbitMQ, instead of `AMQP_URL`. Each connection reads it again."""
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
    """The address of that port; in a container `::`, which is every address, of IPv6 and of IPv4."""
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
            raise SettingsError(_explain(error, cls, "environment", str.upper)) from None
        if settings.amqp_url_file and "amqp_url" in settings.model_fields_set:
            raise SettingsError("AMQP_URL and AMQP_URL_FILE are both set: use one of them")
        settings.broker_url()
        if settings.shard >= settings.shards:
            msg = f"SHARD is {settings.shard}, but SHARDS is {settings.shards}: use 0 to SHARDS-1"
            raise SettingsError(msg)
        return settings

    def broker_url(self) -> str:
        """Return the URL of RabbitMQ, as it is now.

        Raises:
            SettingsError: the file cannot be read, or does not contain a URL.

        """
        if self.amqp_url_file is None:
            return str(self.amqp_url)
        source = f"AMQP_URL_FILE {self.amqp_url_file}"
        try:
            text = self.amqp_url_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"{source} can't be read: {reason}") from None
        return parse_broker_url(text.strip(), source)

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
            mark = getattr(error, "problem_mark", None)
            where = f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise SettingsError(f"{source} is not YAML{where}") from None  # Its own text quotes the file.
        try:
            return SettingsFile.model_validate({} if content is None else content)
        except ValidationError as error:
            raise SettingsError(_explain(error, SettingsFile, source)) from None


class ClusterSettings(ServiceSettings):
    """The environment of a service that uses the Kubernetes API."""

    kubeconfig: Path | None = None
    """The path of a kubeconfig; None: the cluster that the process runs in."""


def parse_broker_url(text: str, source: str) -> str:
    """Return an AMQP URL with all special characters of its login encoded. `source` says where it is from.

    Raises:
        SettingsError: the text is not such a URL. The message contains nothing of it.

    """
    try:
        return str(_BROKER_URL.validate_python(text))
    except ValidationError as error:
        problems = "; ".join(detail["msg"] for detail in error.errors())
        raise SettingsError(f"{source}: {problems}") from None


_ALIASES: dict[int | str, str] = {
    name: field.alias
    for model in (JobSubmission, LogArchive)
    for name, field in model.model_fields.items()
    if field.alias
}
"""The keys of the settings file, by the names of the fields. An error in a default has the latter."""


_BROKER_URL: TypeAdapter[AmqpDsn] = TypeAdapter(BrokerUrl)


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    source: str,
    format_key: Callable[[str], str] = lambda key: key,
) -> str:
    """Return the message for invalid settings: each key, the problem, and the value if it is no secret."""
    parts = []
    for detail in error.errors():
        key = format_key(".".join(str(_ALIASES.get(part, part)) for part in detail["loc"]))
        shown = _is_public(model, detail["loc"]) and not isinstance(detail["input"], dict | list)
        value = f" (is {json.dumps(detail['input'], default=str)})" if shown else ""
        parts.append(f"{key}: {detail['msg']}{value}")
    return f"{source}: " + "; ".join(parts)


def _is_public(model: type[BaseModel], location: Iterable[int | str]) -> bool:
    """Return whether the value at a location may be shown: it belongs to a setting that has no `repr=False`.

    The value of an unknown key, or of a whole section, may contain anything.
    """
    for part in location:
        fields = (field for name, field in model.model_fields.items() if part in (name, field.alias))
        field = next(fields, None)
        if field is None or not field.repr:
            return False
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return True
        model = field.annotation
    return False

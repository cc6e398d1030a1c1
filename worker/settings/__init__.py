"""Settings from the environment (or files under /run/secrets), read once per process.

A field is one word in three cases: `redis_url` here, `REDIS_URL` in the environment, `worker_redis_url` in Ansible.
"""

from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from worker import image_models
from worker.errors import SettingsError
from worker.image_models import Price
from worker.prompts import setting
from worker.prompts.experiment import Experiment
from worker.prompts.setting import Weights
from worker.settings import addresses, values
from worker.settings.supabase_key import read_service_key
from worker.settings.values import ApiKey, Budget, as_json

SECRETS_DIR = Path("/run/secrets")
#: The upload limit of the producer: 10 MiB.
IMAGE_MAX_BYTES = 10 * 1024 * 1024
_PRICES = '{"default": {"text_in": 5, "text_out": 30, "image_in": 8, "image_out": 30}}'

_Name = Annotated[str, AfterValidator(addresses.printable)]
_Http = Annotated[str, AfterValidator(addresses.read_http)]
_Redis = Annotated[str, AfterValidator(addresses.read_redis)]
_Origins = Annotated[
    list[str],
    NoDecode,
    BeforeValidator(values.split),
    AfterValidator(lambda urls: [addresses.read_origin(url) for url in urls]),
]
_Secret = Annotated[SecretStr, AfterValidator(lambda key: SecretStr(addresses.printable(key.get_secret_value())))]
_ServiceKey = Annotated[_Secret, AfterValidator(lambda key: SecretStr(read_service_key(key.get_secret_value())))]


class Settings(BaseSettings):
    """Everything an operator can set. `load()` is the way to get one."""

    model_config = SettingsConfigDict(
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None,
    )

    redis_url: _Redis
    supabase_url: _Http
    supabase_service_role_key: _ServiceKey
    openai_api_key: _Secret

    #: Name of this region where several regions, each with its own Redis, serve one database; empty: there is one.
    region: Annotated[str, AfterValidator(values.read_region)] = ""
    #: This region ends the sessions that no region has started, once no region has their message; one region of all.
    sweep_orphans: bool = False
    #: The one Redis, of all regions, that counts calls to OpenAI; empty: REDIS_URL. While it is away no call begins
    #: but for LIMITER_LOCAL_SHARE.
    limiter_redis_url: Annotated[str, AfterValidator(lambda url: url and addresses.read_redis(url))] = ""

    supabase_storage_bucket: _Name = "virtual-tryon-images"
    signed_url_seconds: int = Field(default=21600, ge=60)

    openai_base_url: _Http = "https://api.openai.com/v1"
    openai_max_retries: int = Field(default=3, ge=0, le=10)
    openai_image_model: _Name = image_models.DEFAULT
    openai_image_fallback_model: _Name = image_models.FALLBACK
    openai_image_size: str = Field(default="1024x1536", pattern=r"^(auto|\d+x\d+)$")
    openai_image_quality: Literal["low", "medium", "high", "xhigh", "max", "auto"] = "medium"
    openai_requests_per_minute: int = Field(default=300, ge=1)
    #: Calls a minute of this region while LIMITER_REDIS_URL is away; 0: none. Reserved for a silent region.
    limiter_local_share: int = Field(default=0, ge=0)
    openai_prices: Annotated[dict[str, Price], NoDecode, as_json(_PRICES)] = {}

    #: Bytes for pictures and answers of all generations together; 0: two fifths of the container's memory.
    generation_memory_bytes: int = Field(default=0, ge=0)
    #: Above this share of the container's memory no message is taken.
    memory_high_water: float = Field(default=0.9, gt=0, le=1)
    #: Calls to OpenAI at once; see `slots`.
    worker_concurrency: int = Field(default=5, ge=1, le=1000)
    generation_timeout_seconds: float = Field(default=300, gt=0)
    drain_timeout_seconds: float = Field(default=310, ge=0)
    rate_limit_retry_seconds: float = Field(default=10, ge=0)
    rate_limit_retry_max_seconds: float = Field(default=60, ge=0)
    #: A pause of the intake because OpenAI or the storage refuses the account: one message probes this often.
    quota_pause_seconds: int = Field(default=15, ge=1)
    #: Share of failures among the latest calls to OpenAI that opens the breaker; then one message probes this often.
    breaker_calls: int = Field(default=20, ge=2, le=1000)
    breaker_failure_share: float = Field(default=0.5, gt=0, le=1)
    breaker_probe_seconds: float = Field(default=5, ge=0.1)
    #: A probe's call; longer than a picture takes, far shorter than a generation may.
    probe_timeout_seconds: float = Field(default=60, gt=0)
    #: From created_at, without pauses of the intake (0: messages do not expire), and with them.
    message_ttl_seconds: int = Field(default=600, ge=0)
    message_ttl_max_seconds: int = Field(default=3600, ge=0)
    #: Weight by lane: `b2c` (all users of the app), a store's id, `store` (every other store); 1 when there is none.
    lane_weights: Annotated[
        dict[str, float], NoDecode, as_json('{"b2c": 5}'), AfterValidator(values.read_lane_weights)
    ] = {"b2c": 5}
    #: Largest share of all slots for one lane while others wait.
    lane_max_running: float = Field(default=0.5, gt=0, le=1)
    #: Weights of prompt versions for messages without a prompt of their own; by a store's id: a version, or weights.
    prompt_experiment: Annotated[Weights, NoDecode, BeforeValidator(setting.read_weights)] = {}
    prompt_experiment_stores: Annotated[dict[UUID, Weights], NoDecode, BeforeValidator(setting.read_stores)] = {}
    #: Names of default texts of the app that this worker does not know: `message-1a2b3c4d`, as events have them.
    prompt_defaults: Annotated[list[str], NoDecode, BeforeValidator(setting.read_defaults)] = []
    #: Largest share of an instance's slots, of the account's calls a minute and of each budget for bulk.
    bulk_share: float = Field(default=0.8, gt=0, le=1)
    #: Time to live of bulk.
    bulk_ttl_seconds: int = Field(default=24 * 3600, ge=60, le=7 * 24 * 3600)
    #: By `all`, `b2c` (all users of the app), a store's id, or `store` (each other store): `{"all": {"day": 50}}`.
    budgets: Annotated[
        dict[str, Budget], NoDecode, as_json('{"all": {"day": 50}}'), AfterValidator(values.read_budgets)
    ] = {}
    #: A message without a consent_version, or without age_verified, is failed and refunded before any download.
    require_consent: bool = False
    #: While this file exists nothing is taken from the queue: a rollout's new container waits until it has passed.
    intake_hold_file: Path | None = None
    lease_seconds: float = Field(default=30, ge=1)
    sweep_interval_seconds: float = Field(default=10, gt=0)
    #: A queued session without a message anywhere in this Redis is ended after this; None: after its time to live.
    #: Only for a database that no other Redis serves: elsewhere its message may wait there.
    orphan_grace_seconds: float | None = Field(default=None, ge=0)
    #: How often the books are proven for the metric; 0: never.
    audit_interval_seconds: int = Field(default=3600, ge=0)
    #: Pictures, their addresses and kept messages are deleted at this age; 0: never.
    data_life_hours: int = Field(default=6, ge=0, le=8760)
    #: Calls to the storage that a purge makes at most.
    data_life_requests_per_second: float = Field(default=50, gt=0, le=1000)
    #: The oldest dead letters make room beyond either limit. The smallest limit holds the largest message.
    dead_letters_max: int = Field(default=1000, ge=1)
    dead_letters_max_bytes: int = Field(default=8 * 1024 * 1024, ge=1024 * 1024)

    image_max_bytes: int = Field(default=IMAGE_MAX_BYTES, ge=1)
    fetch_timeout_seconds: float = Field(default=30, gt=0)
    #: Origins (scheme://host[:port]) that may resolve to private addresses, besides SUPABASE_URL's own.
    fetch_trusted_origins: _Origins = []

    #: Callbacks of stores that are sent at once, in all and to one endpoint; 0 in all: this worker sends none.
    webhook_concurrency: int = Field(default=64, ge=0, le=1000)
    webhook_endpoint_concurrency: int = Field(default=4, ge=1, le=100)
    #: Origins of partners that may resolve to private addresses. For tests, and for partners in our own network.
    webhook_trusted_origins: _Origins = []

    #: 0: one per core.
    sizing_threads: int = Field(default=0, ge=0, le=64)
    sizing_queue: int = Field(default=32, ge=0, le=1000)
    #: Processor of the pose model; auto: a GPU where one works and is faster. GPUs need the image's variant gpu.
    sizing_delegate: Literal["cpu", "gpu", "auto"] = "cpu"
    #: A request's whole time, for an app that gives up after 5 s; its download gets four fifths of it.
    sizing_timeout_seconds: float = Field(default=4.5, gt=0, le=60)
    #: By the client's name: `{"app": {"sha256": "<of the key>", "per_minute": 600}}`; each process counts by itself.
    sizing_api_keys: Annotated[dict[str, ApiKey], NoDecode, as_json('{"app": {"sha256": "<of the key>"}}')] = {}
    #: Another pose model file; its SHA-256 must be the packaged one's.
    pose_model_path: Path | None = None

    http_host: _Name = "0.0.0.0"  # noqa: S104  # inside the container; only nginx publishes ports
    http_port: int = Field(default=8000, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("limiter_local_share")
    @classmethod
    def _share(cls, value: int, info: ValidationInfo) -> int:
        limit = info.data.get("openai_requests_per_minute", value + 1)
        if value and not info.data.get("limiter_redis_url", "unknown"):
            raise ValueError("it is for regions that share a limiter: set LIMITER_REDIS_URL, or leave it out")
        if value >= limit:
            raise ValueError(f"{value} calls a minute must be fewer than OPENAI_REQUESTS_PER_MINUTE, which is {limit}")
        return value

    @cached_property
    def trusted_origins(self) -> frozenset[str]:
        """Origins whose addresses the SSRF guard does not check."""
        return frozenset({addresses.origin(self.supabase_url), *self.fetch_trusted_origins})

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment with prompt versions; false when none is set."""
        return Experiment(self.prompt_experiment, self.prompt_experiment_stores, frozenset(self.prompt_defaults))

    @property
    def slots(self) -> int:
        """Generations at once: while as many calls as allowed are in flight, a few more are prepared or put away."""
        return self.worker_concurrency + self.worker_concurrency // 25

    @property
    def probe_limit_seconds(self) -> float:
        """Time limit of a probe's call, well before the generation's deadline: its customer is not failed."""
        return min(self.probe_timeout_seconds, self.generation_timeout_seconds / 2)

    @property
    def breaker_failures(self) -> int:
        """Failures among the latest calls that open the breaker."""
        return max(1, ceil(self.breaker_calls * self.breaker_failure_share))

    def price(self, model: str) -> Price:
        """Price of `model`: its own line in OPENAI_PRICES, or the line `default`, or OpenAI's list price."""
        return self.openai_prices.get(model) or self.openai_prices.get("default") or image_models.list_price(model)


def load() -> Settings:
    """Read the settings; raises SettingsError with one line that names each bad variable and what it must be."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_explain(item["loc"], item["type"], item["msg"]) for item in error.errors())
        ) from None
    except SourceError as error:
        # A file under /run/secrets that is no text, or not for us. It says which, and not what is in it.
        raise SettingsError(f"{error}: {type(error.__cause__).__name__}") from None


def _explain(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    name, *inside = (str(part) for part in loc) if loc else ("settings",)
    if kind == "missing" and not inside:
        return f"{name.upper()} is not set"
    # Never the value itself: it may be a secret.
    where = f"{'.'.join(inside)}: " if inside else ""
    return f"{name.upper()} is invalid: {where}{message.removeprefix('Value error, ')}"

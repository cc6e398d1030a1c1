"""Settings: defaults, and one clear line for what is missing or malformed."""

import base64
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from worker.clients import redis_client, supabase_headers
from worker.clients.redis_connections import SSLConnection
from worker.errors import SettingsError
from worker.settings import Settings, load
from worker.settings.addresses import origin

STORE = "0192f0c4-aaaa-7000-8000-000000000001"
REQUIRED = {
    "REDIS_URL": "redis://localhost:6379/0",
    "SUPABASE_URL": "https://project.supabase.co/",
    "SUPABASE_SERVICE_ROLE_KEY": "service-secret",
    "OPENAI_API_KEY": "openai-secret",
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return load()


def test_the_defaults_are_those_of_the_contract(settings: Settings) -> None:
    assert settings.supabase_storage_bucket == "virtual-tryon-images"
    assert settings.signed_url_seconds == 21600
    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert (settings.openai_image_model, settings.openai_image_quality) == ("gpt-image-2.6-sunburst", "medium")
    assert settings.openai_image_fallback_model == "gpt-image-2.6-flare"
    assert settings.openai_image_size == "1024x1536"
    assert (settings.openai_max_retries, settings.openai_requests_per_minute) == (3, 300)
    assert (settings.worker_concurrency, settings.generation_timeout_seconds) == (5, 300)
    assert (settings.drain_timeout_seconds, settings.rate_limit_retry_seconds) == (310, 10)
    assert (settings.lease_seconds, settings.orphan_grace_seconds) == (30, None)
    assert (settings.image_max_bytes, settings.fetch_timeout_seconds) == (10 * 1024 * 1024, 30)
    assert settings.price("gpt-image-1.5").model_dump() == {
        "text_in": 5,
        "text_out": 10,
        "image_in": 8,
        "image_out": 32,
    }


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(SettingsError, match=f"^{name} is not set$"):
        load()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("REDIS_URL", "http://localhost", "must be a URL like redis://"),
        ("REDIS_URL", "redis://localhost:99999", "must be a URL like redis://"),
        ("REDIS_URL", "redis://localhost:6379/abc", "the number of a database like /0"),
        ("REDIS_URL", "redis://localhost:6379/0?socket_timeout=abc", "only rediss:// may have options"),
        ("REDIS_URL", "redis://localhost:6379/0?socket_timeout=5", "only rediss:// may have options"),
        ("REDIS_URL", "redis://localhost:6379/0?ssl_cert_reqs=none", "only rediss:// may have options"),
        ("REDIS_URL", "rediss://localhost:6379/0?ssl_cert_reqs=some", "like ssl_cert_reqs=required"),
        ("REDIS_URL", "redis://203.0.113.10:6379/0", "over the internet it must be encrypted: use rediss://"),
        ("REDIS_URL", "redis://[2001:db8::1]:6379/0", "over the internet it must be encrypted"),
        ("REDIS_URL", "redis://[::ffff:8.8.8.8]", "over the internet it must be encrypted"),
        ("REDIS_URL", "redis://172.32.0.1", "over the internet it must be encrypted"),
        ("REDIS_URL", "REDISS://:secret@h:6379/0?ssl_cert_reqs=some", "like ssl_cert_reqs=required"),
        ("REDIS_URL", "redis://:12#34@h:6379/0", "must have no #; write one in a password as %23"),
        ("SUPABASE_STORAGE_BUCKET", " ", "printable ASCII without spaces"),
        ("OPENAI_IMAGE_MODEL", "gpt\u00adimage", "printable ASCII without spaces"),
        ("SUPABASE_URL", "project.supabase.co", "must be a URL like https://"),
        ("SUPABASE_URL", "https://exa mple.test", "printable ASCII without spaces"),
        ("SUPABASE_URL", "https://example.test\u201d", "printable ASCII without spaces"),
        ("SUPABASE_URL", "https://a..b", "must be a URL like https://"),
        ("SUPABASE_SERVICE_ROLE_KEY", "first\nsecond", "printable ASCII without spaces"),
        ("SUPABASE_SERVICE_ROLE_KEY", "\u201ckey\u201d", "printable ASCII without spaces"),
        ("OPENAI_API_KEY", "sk-first second", "printable ASCII without spaces"),
        ("OPENAI_API_KEY", " ", "printable ASCII without spaces"),
        ("OPENAI_BASE_URL", "ftp://api", "must be a URL like https://"),
        ("OPENAI_MAX_RETRIES", "many", "valid integer"),
        ("WORKER_CONCURRENCY", "0", "greater than or equal to 1"),
        ("GENERATION_TIMEOUT_SECONDS", "inf", "finite number"),
        ("FETCH_TRUSTED_ORIGINS", "minio", "must be a URL like https://"),
        ("OPENAI_PRICES", "{", "must be a JSON object"),
        ("OPENAI_PRICES", '{"m": {"text_in": 1}}', "Field required"),
        ("OPENAI_PRICES", '{"m": {"text_in": -1}}', "m.text_in: Input should be greater than or equal to 0"),
        ("OPENAI_PRICES", '{"m": {"text_in": 1e30}}', "m.text_in: Input should be less than or equal to 1000000"),
        ("PROMPT_EXPERIMENT", "{", 'must be a JSON object, such as {"2026-12-a": 90, "2026-12-b": 10}'),
        ("PROMPT_EXPERIMENT", "[" * 10_000, "must be a JSON object"),
        ("PROMPT_EXPERIMENT", '["2026-12-a"]', "must be a JSON object"),
        (
            "PROMPT_EXPERIMENT",
            '{"2026-12-x": 1}',
            "the version '2026-12-x' is unknown; this worker has 2026-12-a,",
        ),
        (
            "PROMPT_EXPERIMENT",
            '{"2026-12-a": -1}',
            "the weight of 2026-12-a is -1; it must be a number from 0 to 1e",
        ),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": NaN}', "the weight of 2026-12-a is nan"),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": Infinity}', "the weight of 2026-12-a is inf"),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": true}', "the weight of 2026-12-a is True"),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": "90"}', "the weight of 2026-12-a is '90'"),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": 0, "2026-12-b": 0}', "all weights are 0; give one version a weight"),
        ("PROMPT_EXPERIMENT", '{"2026-12-a": 1, "2026-12-a": 2}', "'2026-12-a' is named twice"),
        ("PROMPT_EXPERIMENT_STORES", '{"shop": "2026-12-a"}', "'shop' is no id of a store, which is a UUID"),
        ("PROMPT_EXPERIMENT_STORES", f'{{"{STORE}": "2026-12-x"}}', "the version '2026-12-x' is unknown"),
        ("PROMPT_EXPERIMENT_STORES", f'{{"{STORE}": {{}}}}', f"the store {STORE} has no version; name one"),
        ("PROMPT_EXPERIMENT_STORES", f'{{"{STORE}": 5}}', "must be a JSON object"),
        (
            "PROMPT_EXPERIMENT_STORES",
            f'{{"{STORE}": "2026-12-a", "{STORE.upper()}": "2026-12-b"}}',
            f"the store {STORE} is named twice",
        ),
        ("PROMPT_DEFAULTS", "message-1", "'message-1' is no name of a text; it must be like message-1a2b3c4d"),
        ("LOG_LEVEL", "loud", "Input should be"),
        ("REGION", "EU_West", "1 to 32 small letters, digits and single hyphens between them, such as eu-west"),
        ("REGION", "eu--west", "single hyphens"),
        ("REGION", "e" * 33, "1 to 32"),
        ("LIMITER_REDIS_URL", "redis://203.0.113.10:6379/0", "over the internet it must be encrypted: use rediss://"),
        ("LIMITER_LOCAL_SHARE", "30", "it is for regions that share a limiter: set LIMITER_REDIS_URL, or leave it out"),
        ("LIMITER_LOCAL_SHARE", "-1", "greater than or equal to 0"),
    ],
)
def test_a_malformed_variable_is_named_with_what_it_must_be(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as error:
        load()
    assert problem in str(error.value)


def test_a_local_share_must_be_less_than_the_limit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMITER_REDIS_URL", "rediss://limiter.example.com")
    monkeypatch.setenv("LIMITER_LOCAL_SHARE", "299")
    assert (load().limiter_local_share, settings.limiter_local_share) == (299, 0)
    monkeypatch.setenv("LIMITER_LOCAL_SHARE", "300")
    with pytest.raises(SettingsError, match="must be fewer than OPENAI_REQUESTS_PER_MINUTE, which is 300"):
        load()


@pytest.mark.parametrize("name", ["eu", "eu-west-1", "1", "e" * 32])
def test_a_region_has_a_plain_name(settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("REGION", name)
    assert (load().region, settings.region) == (name, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://:hunter2@"),
        ("REDIS_URL", "redis://localhost/hunter2"),
        ("REDIS_URL", "redis://localhost/0?hunter2=hunter2"),
        ("OPENAI_API_KEY", "hunter2 hunter2"),
    ],
)
def test_an_error_never_shows_the_value(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_line_break_that_came_along_is_left_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, f" {REQUIRED[name]}\r\n")
    assert load() == settings


def test_a_secret_may_be_a_file(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / "openai_api_key").write_text(f"{REQUIRED['OPENAI_API_KEY']}\n")
    assert load() == settings


def test_a_secret_file_that_is_no_text_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / "openai_api_key").write_bytes(b"sk-hunter2\xe9")
    with pytest.raises(SettingsError, match=r'"openai_api_key".*UnicodeDecodeError') as error:
        load()
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost/",
        "redis://h:1/15",
        "rediss://h:1/0?ssl_cert_reqs=none",
        "rediss://203.0.113.10",
        "redis://10.0.0.1",
        "redis://172.31.255.255",
        "redis://100.64.0.1",
        "redis://[fd00::1]:6379",
        "redis://[::1]",
        "redis://redis.example.com",
    ],
)
def test_redis_may_be_a_database_near_by_or_have_tls(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load().redis_url == url


def test_the_case_of_the_scheme_does_not_switch_tls_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "REDISS://:password@203.0.113.10")
    loaded = load()
    assert loaded.redis_url == "rediss://:password@203.0.113.10"
    assert issubclass(redis_client(loaded).connection_pool.connection_class, SSLConnection)


def test_a_carriage_return_is_no_part_of_a_name(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUPABASE_STORAGE_BUCKET", "OPENAI_IMAGE_MODEL", "OPENAI_IMAGE_FALLBACK_MODEL", "HTTP_HOST"):
        monkeypatch.setenv(name, f"{getattr(settings, name.lower())}\r")
    assert load() == settings


def test_the_start_ends_with_one_line_and_no_traceback() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "worker", "run"], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    (line,) = (run.stdout + run.stderr).splitlines()
    ended = json.loads(line)
    assert (ended["event"], ended["level"], ended["service"]) == ("worker_ended", "critical", "worker")
    assert ended["reason"].startswith("REDIS_URL is not set; SUPABASE_URL is not set")


def test_secrets_are_not_shown(settings: Settings) -> None:
    assert "secret" not in repr(settings)


def test_the_supabase_origin_is_trusted_besides_those_given(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_TRUSTED_ORIGINS", "http://minio:9000, https://Photos.example")
    assert load().trusted_origins == {
        "https://project.supabase.co:443",
        "http://minio:9000",
        "https://photos.example:443",
    }


def test_prices_are_a_table_per_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PRICES", '{"m": {"text_in": 1, "text_out": 2, "image_in": 3, "image_out": "4.5"}}')
    assert load().price("m").image_out == Decimal("4.5")
    assert load().price("another").image_out == 30


def test_an_origin_always_has_its_port() -> None:
    assert origin("HTTPS://Example.com/a?b") == "https://example.com:443"


def jwt(claims: object) -> str:
    """A JSON Web Token whose signature nothing here looks at."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("sb_publishable_abcdefghijklmnopqrstuv_12345678", "it is a publishable key"),
        ("sbp_0123456789abcdef0123456789abcdef01234567", "it is a personal access token"),
        (jwt({"role": "anon"}), "it is a JWT of the role anon"),
        (jwt({"role": "authenticated"}), "it is a JWT of the role authenticated"),
    ],
)
def test_a_key_of_another_kind_is_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch, key: str, kind: str
) -> None:
    for name, value in {**REQUIRED, "SUPABASE_SERVICE_ROLE_KEY": key}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load()
    assert str(error.value).startswith(f"SUPABASE_SERVICE_ROLE_KEY is invalid: {kind}")
    assert key not in str(error.value)


@pytest.mark.parametrize(
    ("key", "bearer"),
    [
        ("sb_secret_abcdefghijklmnopqrstuv_12345678", None),
        (jwt({"role": "service_role"}), f"Bearer {jwt({'role': 'service_role'})}"),
        (jwt([]), f"Bearer {jwt([])}"),
        ("a.b.c", "Bearer a.b.c"),
    ],
)
def test_only_a_jwt_is_its_own_bearer(monkeypatch: pytest.MonkeyPatch, key: str, bearer: str | None) -> None:
    for name, value in {**REQUIRED, "SUPABASE_SERVICE_ROLE_KEY": key}.items():
        monkeypatch.setenv(name, value)
    headers = supabase_headers(load())
    assert headers["apikey"] == key
    assert headers.get("Authorization") == bearer


def test_an_experiment_has_weights_stores_and_defaults(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings.experiment
    monkeypatch.setenv("PROMPT_EXPERIMENT", '{"2026-12-a": 90, "2026-12-b": 10}')
    monkeypatch.setenv("PROMPT_EXPERIMENT_STORES", json.dumps({STORE: "as-sent", STORE[:-1] + "2": {"2026-12-b": 0.5}}))
    monkeypatch.setenv("PROMPT_DEFAULTS", "message-1a2b3c4d, message-00000000")
    experiment = load().experiment
    assert experiment.weights == {"2026-12-a": 90, "2026-12-b": 10}
    assert list(experiment.stores.values()) == [{"as-sent": 1}, {"2026-12-b": 0.5}]
    assert experiment.defaults == {"message-1a2b3c4d", "message-00000000"}

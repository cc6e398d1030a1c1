"""`wearon-worker doctor` against real services, healthy and not."""

import asyncio
import json
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.sandbox import Sandbox
from tests.sandbox.database import Database
from tests.sandbox.processes import end, free_port, spawn
from tests.sandbox.sandbox import MIGRATION, SCHEMA
from tests.sandbox.valkey import _program
from worker.cli.doctor import command
from worker.doctor import broker, broker_trial, examination, supabase
from worker.generation.supabase.installed import SIGNATURES
from worker.settings import load
from worker.sizing import pose


class Doctor:
    """The command in the sandbox's environment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def run(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(command, arguments, env=self._sandbox.env(**environment))

    def __call__(self, **environment: str) -> dict[str, tuple[str, str, str]]:
        """Status, finding and remedy of each check; the exit code fits them."""
        result = self.run("--json", **environment)
        report: dict[str, Any] = json.loads(result.stdout)
        checks = {check["name"]: (check["status"], check["what"], check["remedy"]) for check in report["checks"]}
        assert result.exit_code == any(status == "fail" for status, _, _ in checks.values())
        return checks


@pytest.fixture
def doctor(sandbox: Sandbox) -> Doctor:
    return Doctor(sandbox)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Redis in cluster mode that has all slots."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    # By default its bus takes port + 10000, an ephemeral port, which another program may have.
    options += ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    process = spawn([str(_program()), *options], log=tmp_path / "log")
    try:
        with Redis(port=port, retry=Retry(ConstantBackoff(0.1), 300)) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        end(process)


def test_a_healthy_world_has_no_failure(doctor: Doctor) -> None:
    checks = doctor()
    assert {name: status for name, (status, _, _) in checks.items() if status != "ok"} == {"ledgers": "warn"}
    assert list(checks) == [
        *("settings", "dns", "redis", "redis permissions", "redis persistence", "redis eviction"),
        *("database", "functions", "ledgers", "events", "bucket"),
        *("openai model", "openai fallback", "clock", "disk", "pose model"),
    ]


def test_nothing_is_left_behind(sandbox: Sandbox, doctor: Doctor) -> None:
    doctor()
    assert sandbox.objects() == {}
    assert sandbox.redis.keys() == []
    assert sandbox.calls() == []


def test_people_read_a_line_for_each_check(doctor: Doctor) -> None:
    result = doctor.run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(line.startswith(("ok    ", "warn  ")) for line in lines)
    assert len(lines) == 16


def test_the_json_keys_are_stable(doctor: Doctor) -> None:
    report = json.loads(doctor.run("--json").stdout)
    assert set(report) == {"healthy", "seconds", "checks"}
    assert {key for check in report["checks"] for key in check} == {"name", "status", "what", "remedy"}


# Settings


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"SUPABASE_URL": "ftp://x"}, "SUPABASE_URL is invalid: must be a URL like https://host"),
        ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY is not set"),
    ],
)
def test_a_bad_setting_is_one_clear_line(doctor: Doctor, environment: dict[str, str], line: str) -> None:
    result = doctor.run(**environment)
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 1
    assert line in result.stdout


def test_secrets_are_never_printed(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"OPENAI_API_KEY": "sk-very-secret", "SUPABASE_SERVICE_ROLE_KEY": "service-secret"}

    async def talkative(settings: Any) -> Any:
        raise RuntimeError(f"{settings.redis_url} {' '.join(secrets.values())}")

    monkeypatch.setitem(examination.CHECKS, "disk", talkative)
    output = doctor.run(REDIS_URL="redis://:redis-secret@127.0.0.1:1/0", **secrets).output
    assert "the check itself failed: RuntimeError" in output
    assert not any(secret in output for secret in ("redis-secret", *secrets.values()))


# Services


def test_a_host_without_address_is_a_failure(doctor: Doctor) -> None:
    status, what, remedy = doctor(OPENAI_BASE_URL="http://no-such-host.invalid/v1")["dns"]
    assert (status, what.partition(":")[0]) == ("fail", "no-such-host.invalid has no address")
    assert "OPENAI_BASE_URL" in remedy


def test_a_redis_that_is_away_is_a_failure(sandbox: Sandbox, doctor: Doctor) -> None:
    sandbox.valkey.stop()
    status, what, _ = doctor()["redis"]
    assert status == "fail"
    assert what.startswith("no answer")


def test_a_redis_in_cluster_mode_is_a_failure(doctor: Doctor, cluster: str) -> None:
    assert doctor(REDIS_URL=cluster)["redis"][:2] == ("fail", "it runs in cluster mode")


@contextmanager
def user(sandbox: Sandbox, *rules: str) -> Iterator[str]:
    """The address of the sandbox's Redis for a user with these rules."""
    sandbox.redis.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">pw", *rules)
    yield f"redis://shop:pw@127.0.0.1:{sandbox.valkey.port}/0"
    sandbox.redis.execute_command("ACL", "DELUSER", "shop")


def test_a_redis_user_with_the_workers_keys_alone_lacks_those_of_celery_exporter(
    sandbox: Sandbox, doctor: Doctor
) -> None:
    with user(sandbox, "~wearon:*", "&*", "+@all") as url:
        checks = doctor(REDIS_URL=url)
    found = {name: check for name, check in checks.items() if name.startswith("redis") and check[0] != "ok"}
    assert list(found) == ["redis permissions"]
    assert found["redis permissions"][0] == "warn"
    assert "celery-exporter sees no task" in found["redis permissions"][1]


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (["~wearon:tasks:*", "+@all"], "LPUSH, RPUSH, BLMOVE"),
        (["%R~wearon:*", "+@all"], "LPUSH, RPUSH, BLMOVE"),
        (["~wearon:*", "+@all", "-@blocking"], "BLMOVE, BRPOP"),
        (["~wearon:*", "+@all", "-zrevrangebylex"], "ZREVRANGEBYLEX"),
        (["~wearon:*", "+@all", "-type", "-rename", "-hsetnx"], "TYPE, RENAME, HSETNX"),
        (["~wearon:*", "+@all", "-@scripting"], "EVAL"),
        (["~wearon:*", "+@all", "-@transaction"], "MULTI"),
        (["~wearon:*", "+@all", "-hset", "-zadd"], "HSET, ZADD"),
    ],
)
def test_a_redis_user_that_may_not_do_what_the_worker_does_is_a_failure(
    sandbox: Sandbox, doctor: Doctor, rules: list[str], refused: str
) -> None:
    with user(sandbox, "&*", *rules) as url:
        status, what, remedy = doctor(REDIS_URL=url)["redis permissions"]
    assert status == "fail"
    assert what.startswith(f"its user may not run: {refused}")
    assert "~wearon:*" in remedy


def test_each_command_of_a_script_is_tried() -> None:
    """A script ends at the first command that its user may not run, and with it the intake."""
    sources = Path(broker_trial.__file__).parents[1].rglob("*.py")
    called = {name for source in sources for name in re.findall(r"redis\.p?call\('([A-Z]+)'", source.read_text())}
    tried = {words[0] for words in broker_trial._trial(*"abcde")}
    assert called - tried == {"LTRIM"}  # tried with the worker's own lists


def test_what_a_managed_redis_does_not_say_is_a_warning(sandbox: Sandbox, doctor: Doctor) -> None:
    with user(sandbox, "~wearon:*", "+@all", "-@dangerous", "-client", "-script", "-evalsha") as url:
        checks = doctor(REDIS_URL=url)
    found = {name: check[:2] for name, check in checks.items() if name.startswith("redis")}
    assert {name: status for name, (status, _) in found.items()} == {
        "redis": "warn",
        "redis permissions": "warn",
        "redis persistence": "warn",
        "redis eviction": "warn",
    }
    assert "celery-exporter sees no task" in found["redis permissions"][1]
    assert all("unknown" in what for name, (_, what) in found.items() if name != "redis permissions")


def test_a_read_only_replica_is_a_failure(sandbox: Sandbox, doctor: Doctor) -> None:
    sandbox.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        status, what, _ = doctor()["redis"]
    finally:
        sandbox.redis.execute_command("REPLICAOF", "NO", "ONE")
    assert status == "fail"
    assert "read-only replica" in what


@pytest.mark.parametrize(
    ("option", "bad", "good", "check", "status"),
    [
        ("appendonly", "no", "yes", "redis persistence", "warn"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "redis eviction", "warn"),
    ],
)
def test_a_redis_that_may_forget_is_worth_a_warning(
    sandbox: Sandbox, doctor: Doctor, option: str, bad: str, good: str, check: str, status: str
) -> None:
    sandbox.redis.config_set(option, bad)
    try:
        assert doctor()[check][0] == status
    finally:
        sandbox.redis.config_set(option, good)


def test_a_redis_that_will_throw_messages_away_is_a_failure(sandbox: Sandbox, doctor: Doctor) -> None:
    sandbox.redis.config_set("maxmemory-policy", "allkeys-lru")
    sandbox.redis.config_set("maxmemory", 100_000_000)
    try:
        assert doctor()["redis eviction"][0] == "fail"
    finally:
        sandbox.redis.config_set("maxmemory", 0)
        sandbox.redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("url", "leads_to", "public"),
    [
        ("redis://managed.example:6379", "203.0.113.10", "203.0.113.10"),
        ("redis://managed.example:6379", "2001:db8::1", "2001:db8::1"),
        ("redis://redis:6379", "172.18.0.2", ""),
        ("redis://cache.internal", "10.0.0.5", ""),
        ("rediss://managed.example:6380", "203.0.113.10", ""),
    ],
)
def test_redis_over_the_internet_is_encrypted(
    monkeypatch: pytest.MonkeyPatch, url: str, leads_to: str, public: str
) -> None:
    family = socket.AF_INET6 if ":" in leads_to else socket.AF_INET
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(family, 1, 6, "", (leads_to, 6379))])
    assert asyncio.run(broker.public_address(url)) == public


@pytest.mark.parametrize(
    ("version", "latency", "status"),
    [("6.0.16", 0, "fail"), ("6.2.0", 0, "ok"), ("7.4.11", 0.2, "warn"), ("", 0, "warn")],
)
def test_redis_must_be_new_enough_and_near(version: str, latency: float, status: str) -> None:
    assert broker._version({"redis_version": version}, latency).status == status


def test_the_wrong_key_of_supabase_is_a_failure(sandbox: Sandbox, doctor: Doctor) -> None:
    status, what, remedy = doctor(SUPABASE_SERVICE_ROLE_KEY="wrong")["database"]
    assert (status, what) == ("fail", "it refuses: Invalid API key")
    assert "service role's key" in remedy


@pytest.mark.parametrize("key", ["anon_key", "publishable_key"])
def test_a_key_of_the_wrong_kind_is_refused_before_any_call(sandbox: Sandbox, doctor: Doctor, key: str) -> None:
    status, what, _ = doctor(SUPABASE_SERVICE_ROLE_KEY=getattr(sandbox, key))["settings"]
    assert status == "fail"
    assert what.startswith("SUPABASE_SERVICE_ROLE_KEY is invalid: it is a ")
    assert "sb_secret_..." in what
    assert getattr(sandbox, key) not in what


def test_a_secret_key_passes_all_checks(sandbox: Sandbox, doctor: Doctor) -> None:
    checks = doctor(SUPABASE_SERVICE_ROLE_KEY=sandbox.secret_key)
    assert {checks[name][0] for name in ("database", "functions", "bucket")} == {"ok"}


@pytest.mark.parametrize(
    ("key", "url", "status"),
    [
        ("service_key", "https://abcdefghijklmnopqrst.supabase.co", "warn"),
        ("secret_key", "https://abcdefghijklmnopqrst.supabase.co", "ok"),
        ("service_key", "https://supabase.example.com", "ok"),
    ],
)
def test_a_key_that_ends_with_the_year_is_worth_a_warning(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, key: str, url: str, status: str
) -> None:
    for name, value in sandbox.env(SUPABASE_URL=url, SUPABASE_SERVICE_ROLE_KEY=getattr(sandbox, key)).items():
        monkeypatch.setenv(name, value)
    assert supabase._key(load()).status == status


@pytest.mark.parametrize(
    ("fault", "what", "remedy"),
    [
        ("project_paused", "the project is paused", "restore it in the Supabase dashboard"),
        ("too_many_requests", "too many requests", "Supabase dashboard"),
        ("database_unreachable", "PostgREST cannot reach the database", "Supabase dashboard"),
        ("schema_unreadable", "PostgREST cannot read the schema", "Supabase dashboard"),
        ("pool_exhausted", "all connections of PostgREST are in use", "long queries"),
        ("statement_timeout", "the statement took longer than statement_timeout", "locks"),
        ("project_restricted", "the project is restricted", "plan"),
    ],
)
def test_what_the_database_side_says_is_told_with_its_remedy(
    sandbox: Sandbox, doctor: Doctor, fault: str, what: str, remedy: str
) -> None:
    sandbox.gateway.fault(fault, on="table/*")
    status, found, advice = doctor()["database"]
    assert status == "fail"
    assert found.startswith(f"it refuses: {what} (")
    assert remedy in advice


def test_an_address_with_a_path_is_told(sandbox: Sandbox, doctor: Doctor) -> None:
    status, _, remedy = doctor(SUPABASE_URL=f"{sandbox.env()['SUPABASE_URL']}/rest/v1")["database"]
    assert status == "fail"
    assert "without a path such as /rest/v1" in remedy


@pytest.mark.parametrize("code", [500, 502, 522, 540])
def test_a_page_in_html_is_told_by_its_status(sandbox: Sandbox, doctor: Doctor, code: int) -> None:
    sandbox.gateway.fault("unavailable", status=code, html=True)
    checks = doctor()
    for check in ("database", "bucket"):
        assert checks[check][0] == "fail"
        assert str(code) in checks[check][1]
        assert "<" not in checks[check][1]


def test_functions_that_were_installed_a_moment_ago_are_waited_for(sandbox: Sandbox, doctor: Doctor) -> None:
    sandbox.gateway.fault("schema_stale", on="rpc/wearon_worker_functions", times=3)
    assert doctor()["functions"][0] == "ok"


def test_functions_of_a_newer_worker_are_named_and_fine(sandbox: Sandbox, doctor: Doctor) -> None:
    parameters = {name: f"{sent}, p_new text" for name, sent in SIGNATURES.items()}
    functions = {**parameters, **dict.fromkeys(supabase.REFUND_FUNCTIONS, "")}
    sandbox.gateway.fault(
        "replaced", on="rpc/wearon_worker_functions", body={"version": 99, "functions": functions, "more": []}
    )
    assert doctor()["functions"][:2] == ("ok", "version 99, newer than this worker's, refund functions present")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("drop function requeue_generation", "missing or outdated: requeue_generation"),
        ("alter function refund_credits rename to refund_nobody", "missing: refund_credits"),
    ],
)
def test_missing_functions_are_named(sandbox: Sandbox, doctor: Doctor, change: str, what: str) -> None:
    sandbox.database.execute(change)
    try:
        status, found, _ = doctor()["functions"]
    finally:
        if "rename" in change:
            sandbox.database.execute("alter function refund_nobody rename to refund_credits")
        sandbox.database.apply(MIGRATION)
    assert status == "fail"
    assert found.startswith(what)


def test_an_unusable_answer_is_told(sandbox: Sandbox, doctor: Doctor) -> None:
    sandbox.gateway.fault("replaced", on="rpc/wearon_worker_functions", body=[])
    status, what, _ = doctor()["functions"]
    assert (status, what) == ("fail", "database answered wearon_worker_functions with list, not an object")


def test_a_database_without_the_migration_is_a_failure_with_its_remedy(sandbox: Sandbox, doctor: Doctor) -> None:
    with Database(sandbox.postgres.create_database("bare")) as bare:
        bare.apply(SCHEMA)
    sandbox.gateway.use(sandbox.postgres.url("bare", user="authenticator"))
    try:
        status, what, remedy = doctor()["functions"]
    finally:
        sandbox.gateway.use(sandbox.postgres.url("wearon", user="authenticator"))
        sandbox.postgres.drop_database("bare")
    assert status == "fail"
    assert what.startswith("missing or outdated: complete_generation, fail_generation")
    assert "functions.sql" in remedy


def test_credits_that_users_may_change_are_worth_a_warning(sandbox: Sandbox, doctor: Doctor) -> None:
    status, what, remedy = doctor()["ledgers"]
    assert (status, remedy) == ("warn", "read docs/hardening.md, then apply `wearon-worker schema --hardening`")
    ways = "credit_transactions: authenticated INSERT; user_credits: authenticated UPDATE"
    assert what == f"users may change credits, {ways}"
    sandbox.gateway.fault("replaced", on="rpc/wearon_examine", body={})
    assert doctor()["ledgers"][0] == "ok"


def test_a_table_that_takes_no_events_is_a_warning(doctor: Doctor, sandbox: Sandbox) -> None:
    sandbox.database.execute("alter table analytics_events rename to gone")
    try:
        status, what, remedy = doctor()["events"]
    finally:
        sandbox.database.execute("alter table gone rename to analytics_events")
    assert status == "warn"
    assert 'analytics_events: relation "analytics_events" does not exist' in what
    assert "results and refunds are not affected" in remedy


def test_a_missing_bucket_is_a_failure(doctor: Doctor) -> None:
    status, what, remedy = doctor(SUPABASE_STORAGE_BUCKET="nowhere")["bucket"]
    assert status == "fail"
    assert what.startswith("nowhere: ")
    assert "SUPABASE_STORAGE_BUCKET" in remedy


@pytest.mark.parametrize(("days", "status"), [(-3, "warn"), (0, "warn"), (14, "warn"), (60, "warn"), (61, "ok")])
def test_a_shutdown_within_60_days_is_a_warning_with_its_date(
    sandbox: Sandbox, doctor: Doctor, days: int, status: str
) -> None:
    day = (datetime.now(UTC) + timedelta(days=days)).date()
    sandbox.openai.set(shutdown_dates=dict.fromkeys(("gpt-image-2.6-sunburst", "gpt-image-2.6-flare"), str(day)))
    checks = doctor()
    when = f"in {days} days" if days >= 0 else "in the past"
    assert checks["openai model"][:2] == (status, f"gpt-image-2.6-sunburst is shut down on {day}, {when}")
    assert checks["openai fallback"][:2] == (status, f"gpt-image-2.6-flare is shut down on {day}, {when}")
    assert "OPENAI_IMAGE_FALLBACK_MODEL" in checks["openai fallback"][2] or status == "ok"


@pytest.mark.parametrize(
    ("kind", "status", "finding", "remedy"),
    [
        ("billing_hard_limit_reached", "fail", "no money", "raise its limit"),
        ("credit_balance_exhausted", "fail", "no money", "pay"),
        ("unauthorized", "fail", "refuses the account: OpenAI answered 401", "OPENAI_API_KEY"),
        ("organization_unverified", "fail", "must be verified", "organization"),
        ("unsupported_country", "fail", "territory not supported", "organization"),
        ("restricted_key", "warn", "Missing scopes", "let the key read models"),
        ("rate_limited", "warn", "limits the rate", "try again"),
        ("server_error", "fail", "unavailable", "status page"),
        ("html", "fail", "describes no model", "OPENAI_BASE_URL"),
        ("drop", "fail", "no usable answer", "OPENAI_BASE_URL"),
    ],
)
def test_what_openai_says_of_the_account_is_told_by_its_meaning(
    sandbox: Sandbox, doctor: Doctor, kind: str, status: str, finding: str, remedy: str
) -> None:
    sandbox.openai.fault(kind, on="models")
    check = doctor()["openai"]
    assert check[0] == status
    assert finding in check[1]
    assert remedy in check[2]


def test_a_model_that_is_not_offered_is_a_warning_while_the_fallback_is(doctor: Doctor) -> None:
    checks = doctor(OPENAI_IMAGE_MODEL="gpt-image-0")
    assert checks["openai model"][:2] == ("warn", "gpt-image-0 is not offered to this key")
    assert checks["openai fallback"][0] == "ok"


def test_no_model_at_all_is_a_failure(doctor: Doctor) -> None:
    checks = doctor(OPENAI_IMAGE_MODEL="gpt-image-0", OPENAI_IMAGE_FALLBACK_MODEL="gpt-image-00")
    assert checks["openai"][:2] == ("fail", "neither gpt-image-0 nor gpt-image-00 is offered")


class Answers(BaseHTTPRequestHandler):
    """Answers everything with one status, one body and one Date."""

    status = 200
    body = b'{"object": "list", "data": []}'
    clock_off = 0.0

    def do_GET(self) -> None:
        self.send_response_only(self.status)
        self.send_header("Date", formatdate(time.time() + self.clock_off, usegmt=True))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else self.body)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Any]:
    """Starts servers that answer as told; -> their address."""
    servers: list[ThreadingHTTPServer] = []

    def start(**answers: Any) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answers,), answers)))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [(401, "fail", "check OPENAI_API_KEY"), (403, "warn", "let the key read models"), (500, "fail", "OPENAI_BASE_URL")],
)
def test_what_openai_says_to_the_key_is_told(doctor: Doctor, server: Any, code: int, status: str, remedy: str) -> None:
    url = server(status=code, body=b'{"error": {"message": "no", "code": null}}')
    check = doctor(OPENAI_BASE_URL=url)["openai"]
    assert check[0] == status
    assert remedy in check[2]


@pytest.mark.parametrize(("off", "status"), [(0, "ok"), (20, "warn"), (-20, "warn"), (300, "fail")])
def test_a_clock_that_is_off_is_told(doctor: Doctor, server: Any, off: float, status: str) -> None:
    url = server(clock_off=off)
    check = doctor(OPENAI_BASE_URL=url, SUPABASE_URL=url)["clock"]
    assert check[0] == status
    assert off == 0 or ("behind" if off > 0 else "ahead") in check[1]


def test_one_server_with_a_wrong_clock_is_not_our_fault(doctor: Doctor, server: Any) -> None:
    assert doctor(OPENAI_BASE_URL=server(clock_off=300))["clock"][0] == "ok"


# This machine


@pytest.mark.parametrize(("free", "status"), [(10 * 1024**3, "ok"), (500 * 1024**2, "warn"), (1024**2, "fail")])
def test_a_disk_without_room_is_told(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor()["disk"][0] == status


def test_a_full_disk_is_told(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    status, what, remedy = doctor()["disk"]
    assert (status, remedy) == ("fail", "make room, or set TMPDIR")
    assert what.startswith("no temporary file can be written: No usable temporary directory")


def test_a_damaged_pose_model_is_a_failure(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise pose.ModelUnusable("The pose model is damaged.")

    monkeypatch.setattr(pose, "verify_model", damaged)
    assert doctor()["pose model"][:2] == ("fail", "The pose model is damaged.")


# Time


def test_services_that_never_answer_take_no_longer_than_the_limit(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, black_hole: str
) -> None:
    monkeypatch.setattr(examination, "LIMIT_SECONDS", 1.0)
    begun = time.monotonic()
    url = f"http://{black_hole}"
    checks = doctor(REDIS_URL=f"redis://{black_hole}/0", SUPABASE_URL=url, OPENAI_BASE_URL=url)
    assert time.monotonic() - begun < 3
    assert [name for name, check in checks.items() if check[0] == "fail"] == [
        *("redis", "database", "bucket", "openai", "clock"),
    ]


def test_a_name_server_that_never_answers_does_not_keep_the_command_from_ending(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "LIMIT_SECONDS", 1.0)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60))
    begun = time.monotonic()
    assert doctor()["dns"][0] == "fail"
    answered.set()
    assert time.monotonic() - begun < 4


def test_all_limits_together_stay_under_ten_seconds() -> None:
    assert examination.LIMIT_SECONDS < 9


def test_a_region_sees_its_limiter_its_database_and_silent_regions(sandbox: Sandbox, doctor: Doctor) -> None:
    region = {"REGION": "eu", "LIMITER_REDIS_URL": sandbox.redis_url, "LIMITER_LOCAL_SHARE": "60"}
    checks = doctor(**region)
    assert [checks[name][0] for name in ("limiter", "region")] == ["ok", "ok"]
    assert re.search(r"^\d+\.\d ms, local share 60, 0 calls", checks["limiter"][1])
    queued = sandbox.producer.b2c(push=False)
    sandbox.database.execute(
        "with gone as (insert into wearon.regions (id, name, seen_at, expires_seconds) "
        "values (gen_random_uuid(), 'us', now() - interval '1 hour', 3720) returning id) "
        "insert into wearon.session_regions (channel, session_id, region) select 'b2c', $1::uuid, id from gone",
        queued.session_id,
    )
    sandbox.redis.hset("wearon:limiter:shares", "other", "299:0:0")
    checks = doctor(**region)
    assert checks["region"][0] == checks["limiter"][0] == "warn"
    assert "silent: us (1 open sessions)" in checks["region"][1]
    assert "lower LIMITER_LOCAL_SHARE" in checks["limiter"][2]


@pytest.mark.parametrize(
    ("share", "status", "what"), [("0", "fail", "no call begins"), ("60", "warn", "makes 60 calls a minute")]
)
def test_a_limiter_that_is_away_is_worth_a_line(doctor: Doctor, share: str, status: str, what: str) -> None:
    checks = doctor(LIMITER_REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}", LIMITER_LOCAL_SHARE=share)
    assert checks["limiter"][0] == status
    assert what in checks["limiter"][1]
    assert "hunter2" not in str(checks)

"""The command line: what a user sees of it without a running world."""

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests import command
from tests.sandbox import Sandbox
from worker.cli.bulk_work import summary
from worker.generation import keys
from worker.generation.bulk.estimate import Estimate
from worker.generation.bulk.manifest import Manifest

#: A file that stands there and gives nothing, not even to root.
UNREADABLE = ["--person", "/proc/self/mem", "--garment", "b.jpg", "--user", "00000000-0000-0000-0000-000000000001"]
#: Settings of which every service is away.
AWAY = {
    "REDIS_URL": "redis://127.0.0.1:1",
    "SUPABASE_URL": "http://127.0.0.1:1",
    "SUPABASE_SERVICE_ROLE_KEY": "k",
    "OPENAI_API_KEY": "k",
}
COMMANDS = [
    *("audit", "bulk", "dead", "doctor", "enqueue", "estimate", "intake", "outcomes", "prompts", "purge"),
    *("queue", "region", "run", "schema", "spend", "webhook"),
]


def wearon_worker(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return command.run({"COLUMNS": "120", **settings}, *arguments)


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does."""
    program = [sys.executable, "-m", "worker", *arguments]
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "120"}
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_command() -> None:
    shown = process("--help").stdout
    assert [
        line.split()[0] for line in shown.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "
    ] == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    run = wearon_worker(name, "--help")
    assert run.returncode == 0
    assert run.stdout.startswith(f"Usage: wearon-worker {name}")


@pytest.mark.parametrize("arguments", [["audit"], ["run"], ["dead", "list"]], ids=" ".join)
def test_missing_settings_are_one_line_and_no_traceback(arguments: list[str]) -> None:
    run = process(*arguments)
    assert run.returncode != 0
    # `run` writes the container's log, the others write to a person.
    (line,) = (run.stdout if arguments == ["run"] else run.stderr).splitlines()
    assert "REDIS_URL is not set" in line


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "Missing option '--person'"),
        (["--person", "a.jpg", "--garment", "b.jpg"], "give either --user (b2c) or --store (b2b)"),
        (["--person", "a.jpg", "--garment", "b.jpg", "--user", "bob"], "'bob' is not a valid UUID"),
        (
            ["--person", "a.jpg", "--garment", "b.jpg", "--user", "00000000-0000-0000-0000-000000000001"],
            "a.jpg is neither a file nor an http(s) URL",
        ),
        ([*UNREADABLE], f"{UNREADABLE[1]} cannot be read"),
        ([*UNREADABLE, "--output", "/nonexistent/c.jpg"], "/nonexistent/c.jpg cannot be written: /nonexistent is no"),
        ([*UNREADABLE, "--timeout", "nan"], "nan is not a finite number"),
        ([*UNREADABLE, "--timeout", "inf"], "inf is not a finite number"),
        ([*UNREADABLE, "--timeout", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_enqueue_says_what_is_wrong_with_its_arguments(arguments: list[str], problem: str) -> None:
    run = wearon_worker("enqueue", *arguments)
    assert run.returncode != 0
    assert problem in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("reason", "problem"),
    [("", "is empty"), (" ", "is empty"), ("two\nlines", "must be one line"), (os.fsdecode(b"caf\xe9"), "in UTF-8")],
)
def test_a_pause_needs_a_reason(reason: str, problem: str) -> None:
    run = wearon_worker("intake", "pause", "--reason", reason)
    assert run.returncode == 2
    assert "--reason" in run.stderr
    assert problem in run.stderr


def test_an_odd_instance_hides_no_state_of_the_intake(sandbox: Sandbox) -> None:
    sandbox.redis.sadd(keys.INSTANCES, b"\xff")
    run = wearon_worker("intake", "status", **sandbox.env())
    assert run.stdout == "messages are taken; 0 wait, 0 are worked on\n"


def test_an_empty_id_adopts_no_region() -> None:
    run = wearon_worker("region", "adopt", "", **AWAY)
    assert run.returncode == 1
    assert run.stderr == "wearon-worker: REGION is not set: this worker knows no regions\n"


def test_a_manifest_that_cannot_be_read_is_told() -> None:
    store = "00000000-0000-0000-0000-000000000001"
    run = wearon_worker("bulk", "submit", UNREADABLE[1], "--store", store, "--yes", **AWAY)
    assert run.returncode == 1
    assert run.stderr == f"wearon-worker: {UNREADABLE[1]} cannot be read: Input/output error\n"


def test_a_manifest_is_told_the_life_that_its_rows_have() -> None:
    manifest = Manifest(uuid4(), "shoes", "digest", [])
    text = summary(manifest, Estimate(rows=1, balance=1, usd=None, seconds=7201), ttl_seconds=7200)
    assert "each row expires 2.0 h after it was queued" in text
    assert "That is more than 2.0 h" in text


@pytest.mark.parametrize("arguments", [["intake", "pause"], ["spend", "--csv"]], ids=" ".join)
def test_a_reader_of_stdout_that_has_gone_is_no_fault_of_redis(sandbox: Sandbox, arguments: list[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    program = [sys.executable, "-m", "worker", *arguments]
    environment = {**os.environ, **sandbox.env(), "PYTHONUNBUFFERED": ""}
    run = subprocess.run(program, env=environment, stdout=write_end, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(write_end)
    assert (run.returncode, run.stderr) == (1, b"")


def test_a_database_that_is_away_is_told_with_the_variable(sandbox: Sandbox) -> None:
    run = wearon_worker("webhook", "list", **sandbox.env(SUPABASE_URL="http://127.0.0.1:1"))
    assert run.returncode == 1
    assert "no connection (ConnectError); check SUPABASE_URL" in run.stderr


def test_a_target_of_a_move_that_is_away_is_told_apart_from_the_source(sandbox: Sandbox) -> None:
    run = wearon_worker("queue", "move", "--to", "TARGET", **sandbox.env(), TARGET="redis://127.0.0.1:1")
    assert run.returncode == 1
    assert "check the address in TARGET" in run.stderr
    assert "REDIS_URL" not in run.stderr


def test_schema_is_json_and_typescript() -> None:
    assert json.loads(wearon_worker("schema").stdout)["title"] == "GenerationMessage"
    assert "export type GenerationMessage" in wearon_worker("schema", "--format", "typescript").stdout


@pytest.mark.parametrize(
    ("to", "problem"),
    [("redis://:secret@10.0.0.1/0", "not the address"), ("missing", "can be read"), ("public", "must be encrypted")],
)
def test_a_queue_is_moved_to_no_address_in_the_command_line_and_to_none_without_tls(
    tmp_path: Path, to: str, problem: str
) -> None:
    (tmp_path / "public").write_text("redis://:secret@8.8.8.8:6379/0\n")
    result = wearon_worker("queue", "move", "--to", to if "://" in to else str(tmp_path / to))
    assert result.returncode in (1, 2)
    assert problem in result.stderr
    assert "secret" not in result.stderr

"""The command line: what a user sees of it without a running world."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: A file that stands there and gives nothing, not even to root.
UNREADABLE = ["--person", "/proc/self/mem", "--garment", "b.jpg", "--user", "00000000-0000-0000-0000-000000000001"]
COMMANDS = [
    *("audit", "bulk", "dead", "doctor", "enqueue", "estimate", "intake", "outcomes", "prompts", "purge"),
    *("queue", "region", "run", "schema", "spend", "webhook"),
]


def wearon_worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "120"}
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_command() -> None:
    shown = wearon_worker("--help").stdout
    assert [
        line.split()[0] for line in shown.split("Commands:")[1].splitlines() if line.startswith("  ") and line[2] != " "
    ] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    run = wearon_worker(command, "--help")
    assert run.returncode == 0
    assert run.stdout.startswith(f"Usage: wearon-worker {command}")


@pytest.mark.parametrize("arguments", [["audit"], ["run"], ["dead", "list"]], ids=" ".join)
def test_missing_settings_are_one_line_and_no_traceback(arguments: list[str]) -> None:
    run = wearon_worker(*arguments)
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


@pytest.mark.parametrize("reason", ["", " "])
def test_a_pause_needs_a_reason(reason: str) -> None:
    run = wearon_worker("intake", "pause", "--reason", reason)
    assert run.returncode == 2
    assert "--reason is empty" in run.stderr


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

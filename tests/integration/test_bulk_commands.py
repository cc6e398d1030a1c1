"""`wearon-worker bulk`: a credit with its session and a message for each row, once, whenever the command dies."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests import command
from tests.integration.conftest import QUICK
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from tests.sandbox.producer import QUEUE
from worker.cli import bulk_work
from worker.generation.bulk.manifest_file import MAX_ROWS, ManifestInvalid, read


def start(world: Sandbox, *arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "worker", *arguments]
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(program, env={**os.environ, **world.env()}, text=True, stdin=subprocess.DEVNULL, **pipes)


def run(world: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.run(world.env(), *arguments)


def manifest(world: Sandbox, folder: Path, rows: int) -> str:
    path = folder / "catalogue.csv"
    urls = f"{world.photos_url}/person.jpg,{world.photos_url}/garment.jpg"
    path.write_text("person,garment,reference\n" + "".join(f"{urls},sku-{number}\n" for number in range(1, rows + 1)))
    return str(path)


def submit(world: Sandbox, path: str, store: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run(world, "bulk", "submit", path, "--store", store, "--yes", *more)


def messages(world: Sandbox) -> list[dict[str, Any]]:
    return [json.loads(item) for item in reversed(world.redis.lrange(QUEUE, 0, -1))]


def spent(world: Sandbox, store: str) -> Counter[str]:
    return Counter(line["type"] for line in world.ledger(store) if line["type"] != "purchase")


def rows_of(world: Sandbox, store: str) -> list[str]:
    query = "select status from store_generation_sessions where store_id = $1"
    return [row["status"] for row in world.database.fetch(query, store)]


def assert_queued_once(world: Sandbox, store: str, rows: int) -> None:
    queued = messages(world)
    assert [it["request_id"].rsplit("_", 1)[1] for it in queued] == [str(number) for number in range(1, rows + 1)]
    assert len({it["session_id"] for it in queued}) == rows
    assert {(it["priority"], it["store_id"]) for it in queued} == {("bulk", store)}
    assert rows_of(world, store) == ["queued"] * rows
    assert spent(world, store) == {"deduction": rows}
    assert world.balance(store) == 200 - rows


def audit(world: Sandbox) -> None:
    done = run(world, "audit", "--full")
    assert done.returncode == 0, done.stdout


#: Kill when the thing is there, with this fault: a step of the command. It calls the function once for 100 rows.
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "the manifest is known": ("known", {"kind": "hang", "on": "rpc/wearon_bulk_begin"}),
    "the answer about the sessions is lost": ("sessions", {"kind": "drop_after", "on": "rpc/wearon_bulk_begin"}),
    "sessions are there and no message": ("paused", {"kind": "slow", "on": "rpc/wearon_bulk_begin", "delay": 1}),
    "some messages are queued": ("messages", {"kind": "slow", "on": "rpc/wearon_bulk_begin", "delay": 1}),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_command_that_is_killed_leaves_no_credit_without_its_session_and_goes_on_where_it_stopped(
    sandbox: Sandbox, tmp_path: Path, step: str
) -> None:
    store, rows = sandbox.producer.store(200), 120
    path, (what, fault) = manifest(sandbox, tmp_path, rows), STEPS[step]
    sandbox.gateway.fault(**fault)
    process = start(sandbox, "bulk", "submit", path, "--store", store, "--yes")
    try:
        _wait_until(sandbox, store, what)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert without_session(sandbox, store) == 0
    sandbox.redis.execute_command("CLIENT", "UNPAUSE")
    sandbox.gateway.clear()
    assert submit(sandbox, path, store).returncode == 0
    assert submit(sandbox, path, store).stdout.endswith(f"0 queued, {rows} were queued before (of {rows})\n")
    assert_queued_once(sandbox, store, rows)
    audit(sandbox)


def without_session(world: Sandbox, store: str) -> int:
    """Credits that were taken for no session, in one look."""
    query = (
        "select (select count(*) from store_credit_transactions where store_id = $1 and type = 'deduction') "
        "- (select count(*) from store_generation_sessions where store_id = $1)"
    )
    return int(world.database.value(query, store))


def _wait_until(world: Sandbox, store: str, what: str) -> None:
    if what == "paused":
        wait_for(lambda: world.redis.keys("wearon:bulk:*"), 60, "the manifest is not known")
        world.redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    conditions: dict[str, Callable[[], Any]] = {
        "known": lambda: world.redis.keys("wearon:bulk:*"),
        "sessions": lambda: rows_of(world, store),
        "paused": lambda: rows_of(world, store),
        "messages": lambda: world.redis.llen(QUEUE),
    }
    wait_for(conditions[what], 60, f"not reached: {what}")


def test_two_commands_at_once_queue_each_row_once(sandbox: Sandbox, tmp_path: Path) -> None:
    store, rows = sandbox.producer.store(200), 120
    path = manifest(sandbox, tmp_path, rows)
    sandbox.gateway.fault("slow", on="rpc/wearon_bulk_begin", delay=0.3)
    both = [start(sandbox, "bulk", "submit", path, "--store", store, "--yes") for _ in range(2)]
    ends = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert_queued_once(sandbox, store, rows)


def test_credits_that_end_in_the_middle_stop_the_command_and_the_file_goes_on_later(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    store, rows = sandbox.producer.store(7), 12
    path = manifest(sandbox, tmp_path, rows)
    first = submit(sandbox, path, store)
    assert first.returncode == 1
    assert "7 queued, 0 were queued before, 5 not queued: the store has no credit left" in first.stdout
    assert "The credits may end after 7 rows" in first.stderr
    assert (sandbox.balance(store), len(messages(sandbox))) == (0, 7)
    sandbox.database.execute("update store_credits set balance = balance + 5 where store_id = $1", store)
    second = submit(sandbox, path, store)
    assert second.returncode == 0
    assert "5 queued, 7 were queued before (of 12)" in second.stdout
    assert (sandbox.balance(store), len({it["session_id"] for it in messages(sandbox)})) == (0, rows)


def test_a_cancellation_tells_the_rows_that_were_never_queued_by_the_status_they_have(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    submit(sandbox, manifest(sandbox, tmp_path, 3), sandbox.producer.store(1), "--id", "one")
    told = run(sandbox, "bulk", "cancel", "one", "--yes").stdout
    assert sorted(told.strip().split(", ")) == ["1 cancelled", "2 not_queued"]
    status = json.loads(run(sandbox, "bulk", "status", "one", "--json").stdout)
    assert (status["not_queued"], status["failed"]) == (2, 1)


def test_a_manifest_is_made_told_and_its_rest_is_cancelled_once(sandbox: Sandbox, tmp_path: Path) -> None:
    store = sandbox.producer.store(100)
    name = ("--id", "spring-1")
    with WorkerProcess(sandbox, **QUICK) as worker:
        path = manifest(sandbox, tmp_path, 3)
        assert submit(sandbox, path, store, *name).returncode == 0
        wait_for(lambda: rows_of(sandbox, store) == ["completed"] * 3, 40, lambda: str(rows_of(sandbox, store)))
        assert worker.stop() == 0
    shown = list(csv.DictReader(io.StringIO(run(sandbox, "bulk", "results", "spring-1").stdout)))
    assert [(row["row"], row["reference"], row["status"]) for row in shown] == [
        (str(number), f"sku-{number}", "completed") for number in range(1, 4)
    ]
    assert all("/object/sign/" in row["picture"] for row in shown)
    other = submit(sandbox, manifest(sandbox, tmp_path, 4), store, *name)
    assert "spring-1 is another file, or of another store; choose another --id" in other.stderr
    assert submit(sandbox, manifest(sandbox, tmp_path, 5), store, "--id", "summer").returncode == 0
    assert sandbox.balance(store) == 92
    for told in ("5 cancelled", "5 failed"):
        assert run(sandbox, "bulk", "cancel", "summer", "--yes").stdout.startswith(told)
    assert (sandbox.balance(store), messages(sandbox)) == (97, [])
    status = json.loads(run(sandbox, "bulk", "status", "summer", "--json").stdout)
    assert (status["rows"], status["failed"], status["cancelled"]) == (5, 5, True)
    again = submit(sandbox, manifest(sandbox, tmp_path, 5), store, "--id", "summer")
    assert "manifest summer was cancelled" in again.stderr
    audit(sandbox)


@pytest.mark.parametrize("step", ["the message is taken", "the session is there and no message"])
def test_a_cancellation_that_is_killed_is_ended_by_the_next_one(sandbox: Sandbox, tmp_path: Path, step: str) -> None:
    store, rows = sandbox.producer.store(100), 6
    path = manifest(sandbox, tmp_path, rows)
    if step == "the message is taken":
        assert submit(sandbox, path, store, "--id", "one").returncode == 0
        sandbox.gateway.fault("slow", on="rpc/fail_generation", delay=30)
        process = start(sandbox, "bulk", "cancel", "one", "--yes")
        wait_for(lambda: sandbox.redis.llen(QUEUE) == 0, 60, "no message was taken")
    else:
        sandbox.gateway.fault("drop_after", on="rpc/wearon_bulk_begin")
        process = start(sandbox, "bulk", "submit", path, "--store", store, "--id", "one", "--yes")
        wait_for(lambda: rows_of(sandbox, store), 60, "no session was made")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    sandbox.gateway.clear()
    for _ in range(2):
        assert run(sandbox, "bulk", "cancel", "one", "--yes").returncode == 0
    counts = spent(sandbox, store)
    assert counts["refund"] == counts["deduction"] > 0
    assert (sandbox.balance(store), messages(sandbox)) == (100, [])
    assert set(rows_of(sandbox, store)) <= {"failed"}
    audit(sandbox)


def test_an_interrupted_command_says_how_to_go_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(bulk_work, "submit", interrupted)
    told = submit(sandbox, manifest(sandbox, tmp_path, 1), sandbox.producer.store(1), "--id", "one")
    assert told.returncode == 1
    assert "submit the same file again, which repeats nothing" in told.stderr
    assert "wearon-worker bulk cancel one" in told.stderr


def test_a_database_without_the_function_is_told_at_once_with_the_remedy(sandbox: Sandbox, tmp_path: Path) -> None:
    store = sandbox.producer.store(1)
    sandbox.gateway.fault("schema_stale", on="rpc/wearon_bulk_begin")
    told = submit(sandbox, manifest(sandbox, tmp_path, 1), store)
    assert "database does not run wearon_bulk_begin" in told.stderr
    assert "apply functions.sql" in told.stderr
    assert (told.returncode, messages(sandbox), sandbox.balance(store)) == (1, [], 1)


def test_rows_that_were_refunded_before_they_were_queued_are_no_success(sandbox: Sandbox, tmp_path: Path) -> None:
    """The command died before it had queued the rows, and the sweep has ended their sessions since."""
    store, path = sandbox.producer.store(100), manifest(sandbox, tmp_path, 3)
    assert submit(sandbox, path, store, "--id", "one").returncode == 0
    sandbox.redis.delete(QUEUE, "wearon:bulk-pushed:one")
    query = "select fail_generation('b2b', id, 'too late') from store_generation_sessions where store_id = $1"
    sandbox.database.execute(query, store)
    again = submit(sandbox, path, store, "--id", "one")
    assert "0 queued, 0 were queued before, 3 were refunded before they were queued" in again.stdout
    assert (again.returncode, messages(sandbox), sandbox.balance(store)) == (1, [], 100)


def test_a_cancellation_takes_its_own_messages_and_none_that_may_be_paid(sandbox: Sandbox, tmp_path: Path) -> None:
    """A worker died with two sessions: one started, one in its paid call; and another manifest has a similar name."""
    store = sandbox.producer.store(100)
    for rows, name in ((3, "one"), (2, "one_1")):
        assert submit(sandbox, manifest(sandbox, tmp_path, rows), store, "--id", name).returncode == 0
    started, paid = (it["session_id"] for it in messages(sandbox)[:2])
    query = "update store_generation_sessions set status = 'processing' where id = any($1)"
    sandbox.database.execute(query, [started, paid])
    for session, stage in ((started, "started"), (paid, "calling")):
        sandbox.redis.set(f"wearon:begun:{session}", f"{stage} 1 gone:1 {{}}")
    told = run(sandbox, "bulk", "cancel", "one", "--yes").stdout
    assert sorted(told.strip().split(", ")) == ["1 processing", "2 cancelled"]
    kept = [it["request_id"] for it in messages(sandbox)]
    assert kept == ["bulk_one_2", "bulk_one_1_1", "bulk_one_1_2"]
    assert sandbox.redis.keys("wearon:begun:*") == [f"wearon:begun:{paid}"]
    assert spent(sandbox, store) == {"deduction": 5, "refund": 2}


def test_every_fault_of_a_manifest_is_told_with_its_line_and_nothing_is_queued(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    store, path = sandbox.producer.store(100), tmp_path / "bad.jsonl"
    good = {"person": f"{sandbox.photos_url}/person.jpg", "garment": f"{sandbox.photos_url}/garment.jpg"}
    rows = [
        good,
        {**good, "person": "ftp://a/b"},
        {**good, "garment": "http://169.254.169.254/latest"},
        {**good, "prompt": "x" * 32_001},
        {**good, "colour": "red"},
        {"person": good["person"]},
        {**good, "accessories": ["https://a.example/1.jpg"] * 15},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    first = submit(sandbox, str(path), store)
    assert first.returncode == 1
    for line in ("line 5: unknown fields 'colour'", "line 6: garment is missing", "line 8: no JSON object"):
        assert line in first.stderr
    path.write_text("".join(json.dumps(rows[number]) + "\n" for number in (0, 1, 3, 6)))
    second = submit(sandbox, str(path), store)
    for line in ("line 2: person: URL is neither http nor https", "line 3: prompt:", "line 4: 17 photos; the limit"):
        assert line in second.stderr
    path.write_text(
        "\n".join(json.dumps({**good, field: text}) for field in ("prompt", "reference") for text in "\0\ud800")
    )
    third = submit(sandbox, str(path), store)
    assert [f"line {line}: prompt or reference has a NUL" in third.stderr for line in range(1, 5)] == [True] * 4
    path.write_text(json.dumps(rows[2]))
    assert "line 1: 169.254.169.254 is no public address" in submit(sandbox, str(path), store).stderr
    assert (spent(sandbox, store), messages(sandbox)) == ({}, [])
    table = tmp_path / "bad.csv"
    for text, told in {
        "person,person,garment\n": "line 1: bad.csv has two columns 'person'",
        'person,garment\na,b\n"a"b,c\n': "line 3: ',' expected after",
        "person,garment,prompt\na,b,red, please\n": "line 2: more cells than columns; put a text that has a comma",
    }.items():
        table.write_text(text)
        assert told in submit(sandbox, str(table), store).stderr
    unasked = run(sandbox, "bulk", "submit", str(path), "--store", store)
    assert "stdin is no terminal to ask at; add --yes" in unasked.stderr


def test_consent_and_age_travel_with_a_row_and_are_asked_for_before_anything_is_queued() -> None:
    columns, urls = "person,garment,consent_version,age_verified\n", "https://a.example/1.jpg,https://a.example/2.jpg"
    good = read(f"{columns}{urls},2026-11,true\n".encode(), "x.csv", uuid4(), require_consent=True)
    message = good.message(good.rows[0])
    assert message.consent == {"consent_version": "2026-11", "age_verified": True}
    bad = f"{columns}{urls},2026-11,true\n{urls},2026-11,false\n{urls},,\n".encode()
    assert len(read(bad, "x.csv", uuid4()).rows) == 3
    with pytest.raises(ManifestInvalid) as refused:
        read(bad, "x.csv", uuid4(), require_consent=True)
    assert [line.split(": ")[0] for line in str(refused.value).splitlines()[1:]] == ["line 3", "line 4"]


@pytest.mark.parametrize(("name", "row"), [("x.jsonl", "{}\n"), ("x.jsonl", "x\n"), ("x.csv", "a,b\n")])
def test_a_manifest_that_is_too_long_is_not_read_to_its_end(name: str, row: str) -> None:
    content = ("person,garment\n" * name.endswith("csv") + row * 3 * MAX_ROWS).encode()
    with pytest.raises(ManifestInvalid, match=rf"^{name} has more than {MAX_ROWS} rows, which is the limit: split it$"):
        read(content, name, uuid4())

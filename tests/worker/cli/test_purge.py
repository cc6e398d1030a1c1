"""`wearon-worker purge`: what goes, what stays, what the report says, and what a kill in the middle costs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from tests.bench.bucket import Planted, plant
from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET, ROOT
from worker.cli.purge import command
from worker.errors import SettingsError
from worker.generation import keys
from worker.generation.data_life.bucket import BucketRefused

HOUR = 3600.0
Run = Callable[..., Result]


@pytest.fixture
def run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in the sandbox; fast, unless the settings say otherwise."""

    def ran(*arguments: str, **more: str) -> Result:
        for name, value in {**sandbox.env(), "DATA_LIFE_REQUESTS_PER_SECOND": "1000", **more}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(command, arguments)

    return ran


def test_a_purge_killed_twice_deletes_exactly_the_right_ones(sandbox: Sandbox, run: Run) -> None:
    planted = plant(sandbox, 3000)
    environment = sandbox.env(PATH=os.environ["PATH"], DATA_LIFE_REQUESTS_PER_SECOND="150")
    for share in (0.7, 0.3):
        purge = subprocess.Popen([sys.executable, "-m", "worker", "purge"], env=environment, cwd=ROOT)
        left = len(planted.stay) + share * len(planted.go)
        while len(sandbox.gateway.paths(BUCKET)) > left:
            assert purge.poll() is None
            time.sleep(0.02)
        purge.kill()
        purge.wait()
        sandbox.redis.delete(keys.DATA_LIFE_LOCK)  # it ends by itself after a while
        assert planted.stay <= sandbox.gateway.paths(BUCKET)
    assert run().exit_code == 0
    assert sandbox.gateway.paths(BUCKET) == planted.stay


def test_a_dry_run_says_how_much_would_go_and_changes_nothing(sandbox: Sandbox, run: Run) -> None:
    planted = plant(sandbox, 300)
    report = json.loads(run("--dry-run", "--json").stdout)
    assert (report["dry_run"], report["pictures"]["objects"]) == (True, len(planted.go))
    assert report["pictures"]["bytes"] == planted.bytes
    oldest = datetime.fromisoformat(report["pictures"]["oldest_deleted"])
    assert datetime.now(UTC) - oldest > timedelta(hours=6)
    assert sandbox.gateway.paths(BUCKET) == planted.stay | planted.go
    assert sandbox.redis.keys("wearon:data-life*") == []
    shown = run("--dry-run").stdout
    for words in ("stores/*/generated", f"would go: {len(planted.go):,} pictures", "the oldest of 20"):
        assert words in shown


@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_an_erasure_takes_one_owners_data_of_any_age(sandbox: Sandbox, run: Run, channel: str) -> None:
    queued = getattr(sandbox.producer, channel)
    done, other = queued(push=False), queued(push=False)
    owner = done.owner_id
    folder = f"stores/{owner}/" if channel == "b2b" else ""
    tail = "" if channel == "b2b" else f"{owner}/"
    mine = {f"{folder}uploads/{tail}a/b.jpg", f"{folder}generated/{tail}{done.session_id}.jpg"}
    opened = queued(owner, push=False, images=[f"https://s/{BUCKET}/{folder}uploads/{tail}open.jpg?token=t"])
    stay = {f"{folder}uploads/{tail}open.jpg", f"uploads/{uuid4()}/a.jpg", f"stores/{owner}/logo.png"}
    sandbox.gateway.plant(BUCKET, [(name, 60.0, 10) for name in mine | stay])
    table = "generation_sessions" if channel == "b2c" else "store_generation_sessions"
    sandbox.database.execute(f"update {table} set status = 'failed' where id = $1", done.session_id)
    ledger = sandbox.ledger(owner)

    shown = run("--user" if channel == "b2c" else "--store", owner).stdout
    assert sandbox.gateway.paths(BUCKET) == stay
    rows = [sandbox.session(channel, it.session_id)["model_image_url"] for it in (done, opened, other)]
    assert [row == "expired" for row in rows] == [True, False, False]
    assert sandbox.ledger(owner) == ledger
    for words in (
        "deleted: 2 pictures of 20 bytes",
        "the addresses of 1 sessions",
        "1 open sessions",
        "ledger",
        "analytics_events",
    ):
        assert words in shown


def test_an_erasure_in_one_of_several_regions_names_what_the_others_have(run: Run) -> None:
    words = "dead letters and kept outcomes of other regions than eu"
    assert words in run("--user", str(uuid4()), REGION="eu").stdout
    assert "other regions" not in run("--user", str(uuid4()), REGION="").stdout


def test_what_cannot_be_deleted_is_an_error(sandbox: Sandbox, run: Run) -> None:
    sandbox.gateway.plant(BUCKET, [("uploads/u/a.jpg", 9 * HOUR, 1)])
    sandbox.gateway.fault("object_too_large", on="storage/remove")
    result = run()
    assert (result.exit_code, "1 could not be deleted" in result.stdout) == (1, True)
    sandbox.gateway.fault("bucket_gone", on="storage/list")
    with pytest.raises(BucketRefused, match="listing of a folder: 404 Bucket not found"):
        raise run().exception or AssertionError


def test_a_life_of_0_hours_and_two_owners_are_refused(run: Run) -> None:
    refused = run(DATA_LIFE_HOURS="0")
    assert isinstance(refused.exception, SettingsError)
    assert "DATA_LIFE_HOURS is 0" in str(refused.exception)
    both = run("--user", str(uuid4()), "--store", str(uuid4()))
    assert (both.exit_code, "give either --user or --store" in both.output) == (2, True)


def test_planted_traps_are_of_every_kind(sandbox: Sandbox) -> None:
    planted: Planted = plant(sandbox, 300)
    assert len(planted.go) > 200
    assert len(planted.stay) > 20

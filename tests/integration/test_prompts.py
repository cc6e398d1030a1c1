"""An experiment with a planted bad prompt in a real worker: moderation blocks a version, whose sessions move."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests import command
from tests.integration.conftest import QUICK, Ended
from tests.integration.scrape import scrape
from tests.integration.worker_process import WorkerProcess, wait_for
from tests.sandbox import Sandbox
from worker.prompts import catalogue

A, B = "2026-12-a", "2026-12-b"
TEXTS = {version: catalogue.versions()[version].text for version in (A, B)}
EXPERIMENT = {"PROMPT_EXPERIMENT": json.dumps({A: 50, B: 50})}


@pytest.fixture(scope="module")
def worker(world: Sandbox) -> Iterator[WorkerProcess]:
    world.reset()
    with WorkerProcess(world, **QUICK, **EXPERIMENT) as process:
        yield process


def prompts(around: Sandbox, *arguments: str) -> dict[str, Any]:
    """The answer of `wearon-worker prompts ... --json`."""
    done = command.run(around.env(**EXPERIMENT), "prompts", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_planted_bad_prompt_is_paused_and_its_sessions_get_the_control(
    around: Sandbox, worker: WorkerProcess, ended: Ended, marker: str
) -> None:
    around.openai.fault("moderation_blocked", contains=TEXTS[B])
    owner = around.producer.user(balance=100)
    rows = [ended(queued) for queued in [around.producer.b2c(owner) for _ in range(60)]]
    sent = Counter(call.prompt for call in around.calls())
    assert sent.keys() == set(TEXTS.values())
    assert Counter(row["status"] for row in rows) == {"completed": sent[TEXTS[A]], "failed": sent[TEXTS[B]]}

    wait_for(lambda: scrape(worker.url).value("wearon_prompt_paused", version=B) == 1, 40, "the version is not paused")
    (told,) = worker.logs("prompt_paused")
    assert (told["prompt_version"], told["control"]) == (B, A)
    counted = scrape(worker.url)
    for version, result in ((A, "completed"), (B, "moderation_blocked")):
        there = counted.value("wearon_prompt_generations_total", version=version, result=result)
        assert there == sent[TEXTS[version]]
    assert {line["prompt_version"] for line in worker.logs("generation_completed")} == {A}

    wait_for(lambda: worker.logs("prompt_pauses_changed", paused=[B]), 10, "the pause is not known")
    before = len(around.calls())
    assert ended(around.producer.b2c(owner, prompt=marker))["status"] == "completed"
    assert {ended(around.producer.b2c(owner))["status"] for _ in range(6)} == {"completed"}
    assert Counter(call.prompt for call in around.calls()[before:]) == {marker: 1, TEXTS[A]: 6}
    assert not [text for text in TEXTS.values() if text[:40] in worker.output()]

    shown = {row["version"]: row for row in prompts(around, "compare", "--since", "1h")["versions"]}
    assert (shown[A]["moderation"]["value"], shown[B]["moderation"]["value"]) == (0, 1)
    assert shown[B]["note"].startswith("too little data")
    listed = {row["version"]: row for row in prompts(around, "list")["versions"]}
    assert (listed[A]["control"], listed[B]["weight"]) == (True, 50)
    assert listed[B]["reason"].startswith("moderation blocked")

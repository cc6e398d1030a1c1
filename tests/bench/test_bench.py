"""The benchmark runs and has its figures; what they say is for a quiet machine."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import generation, machine, saved, scaling, scaling_model
from tests.bench.__main__ import main
from tests.bench.accuracy import accuracy
from tests.bench.figures import Figure, as_json, change, most_within, percentile
from tests.bench.meter import names
from tests.bench.scaling_model import Point
from tests.bench.world import world

EXPECTED = {
    "generation": {
        "own time p50",
        "completed in best minute",
        "worker CPU per generation",
        "/health p99",
        "worker PSS peak",
    },
    "burst": {"drain rate", "calls in flight, peak", "sandbox CPU per generation"},
    "outage": {"OpenAI down: paused after", "no quota: pause ended after recovery"},
    "backlog": {"Redis, growth while they wait", "worker, processor more with them", "drain rate"},
    "lanes": {"lanes: shoppers p95", "bulk: CPU per generation, against the line"},
    "bucket": {"deleted", "wrongly deleted", "RSS peak"},
    "start": {"start to ready, best", "idle PSS"},
    "rest": {"at rest, sent", "generation, sent", "generation, with those that scripts call"},
    "scaling": {
        "2 instances: share of linear growth",
        "fit: CPU of Redis, generation",
        "limiter, 4 processes, 3000 a minute: calls",
    },
    "growth": {"concurrency 10: PSS peak", "2 megapixels: CPU per generation"},
}


@pytest.mark.parametrize("part", EXPECTED)
def test_a_quick_run_has_all_figures(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([part, "--quick", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    figures = {figure["name"]: figure["value"] for figure in shown["parts"][part]}
    assert figures.keys() >= EXPECTED[part]
    assert figures.get("failed", 0) == figures.get("not ended", 0) == 0
    assert shown["machine"]["cores"] >= 1


def test_worker_and_sandbox_run_on_the_cores_that_are_named() -> None:
    worker_cores, sandbox_cores = machine.cores()
    with world(2) as around:
        around.start_worker()
        placed = {name: os.sched_getaffinity(pid) for name, pid in names(around.worker.process.pid).items()}
        apart = [os.sched_getaffinity(pid) for pid in around.sandbox.pids().values()]
    assert placed == {"supervisor": worker_cores, "celery": worker_cores}
    assert all(cores == sandbox_cores for cores in apart)


def test_a_process_that_has_ended_is_passed_over() -> None:
    with subprocess.Popen(["sleep", "60"]) as running, subprocess.Popen(["true"]) as ended:
        ended.wait()
        machine.pin([ended.pid, running.pid], {min(os.sched_getaffinity(0))})
        placed = os.sched_getaffinity(running.pid)
        running.kill()
    assert placed == {min(os.sched_getaffinity(0))}


def test_figures_can_be_kept_in_a_file_beside_the_tables(tmp_path: Path) -> None:
    assert main(["images", "--quick", "--save", str(tmp_path / "bench.json")]) == 0
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert (kept["parts"].keys(), kept["machines"].keys()) == ({"images"}, {"images"})


def test_a_saved_run_keeps_the_parts_of_others_and_draws_their_curves(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    growth = [Figure(f"concurrency {count}: PSS peak", 300 + count, "MB") for count in (10, 50)]
    growth += [Figure(f"concurrency {count}: CPU per generation", 0.1, "s") for count in (10, 50)]
    saved.write(file, as_json({"cores": 2}, {"growth": growth}))
    saved.write(file, as_json({"cores": 4}, {"burst": [Figure("drain rate", 900.0)]}))
    assert saved.read(file) == {
        "growth": {figure.name: figure.value for figure in growth},
        "burst": {"drain rate": 900},
    }
    assert json.loads(file.read_text())["machines"]["growth"] == {"cores": 2}
    # 310 and 350 MB over a plot from 0 to 350 MB.
    assert 'points="50.0,51.7 400.0,30.0"' in (tmp_path / "growth-mb.svg").read_text()
    assert (change(990.0, 900.0), change(990.0, ""), change("x", 1.0)) == ("+10 %", "", "")


def test_the_model_finds_the_costs_that_the_points_were_made_of() -> None:
    uses = {"workers": (0.02, 0.05), "redis": (0.001, 0.002), "database": (0.0, 0.01), "commands": (3.0, 40.0)}
    points = [
        Point(count, rate, **{use: one * count + each * rate for use, (one, each) in uses.items()})
        for count in (1, 2, 4)
        for rate in (0.0, 2.5 * count)
    ]
    found = scaling_model.fit(points)
    assert {use: pytest.approx(cost) for use, cost in found.items()} == uses
    assert dict(scaling_model.limits(found)["Redis"])[8] == pytest.approx(60 * (0.8 - 8 * 0.001) / 0.002)


def test_the_rate_of_ends_in_waves_is_that_of_their_steps() -> None:
    assert scaling.slope([8.0 * wave for wave in range(6) for _ in range(10)]) == pytest.approx(10 / 8, rel=0.03)


def test_calls_in_a_window_are_counted_wherever_it_begins() -> None:
    assert most_within([0.0, 5.0, 9.9, 10.0, 10.1, 19.0], 10.0) == 4


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "no such part: nothing" in capsys.readouterr().err


def test_full_minutes_count_from_the_first_result() -> None:
    ended = [100.0 + second for second in range(150)]
    assert generation.full_minutes(ended, begin=100, minutes=2) == [60, 60]
    assert most_within(ended, 60) == 60


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.95, 4), (0.99, 4)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4, 3, 2, 1], share) == value


def test_accuracy_needs_no_pictures_and_has_the_cameras(tmp_path: Path) -> None:
    head = "sex,height_cm,chest_cm,waist_cm,hip_cm,weight_kg,notes"
    (tmp_path / "truth.csv").write_text(f"{head}\nM,173.4,95.1,87.8,97.5,77.3,camera at 0.3 m\nF,165,90,72,98,60,\n")

    done = CliRunner().invoke(accuracy, [str(tmp_path)], env={"COLUMNS": "150"})

    assert done.exit_code == 0, done.output
    assert "2 people, 0 pictures refused" in done.output
    assert "camera below 0.9 m" in done.output

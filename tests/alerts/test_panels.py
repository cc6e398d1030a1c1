"""No dead panel: every query has an answer from a Prometheus that scrapes a real worker with something
to do, and what exporters said on a provisioned host (recorded/: each file says where it is from)."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.alerts.boards import Query, queries
from tests.alerts.promtool import HERE
from tests.integration.conftest import QUICK
from tests.integration.worker_process import ENDED, WorkerProcess, wait_for
from tests.programs import command
from tests.sandbox import Sandbox
from tests.sandbox.client import HTTP
from tests.sandbox.processes import free_port
from tests.sandbox.producer import Queued

PERSON = HERE.parent / "worker/sizing/pictures/images/b000.jpg"
#: What happens only where something goes wrong or is not set up; a panel may be empty for that.
RARE = {"How old is the newest backup?"}


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {".prom": "text/plain; version=0.0.4"}  # noqa: RUF012  # Prometheus 3 reads no other type

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def recorded() -> Iterator[str]:
    """The recorded exporters, each at /<job>.prom."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(HERE / "recorded")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@contextmanager
def prometheus(folder: Path, worker: str, exporters: str, rules: Path) -> Iterator[str]:
    """A Prometheus that scrapes every second, at this address."""
    port = free_port()
    jobs = {path.stem: (exporters, f"/{path.name}") for path in (HERE / "recorded").glob("*.prom")}
    jobs |= {"worker": (worker, "/metrics"), "prometheus": (f"127.0.0.1:{port}", "/metrics")}
    labels = {"worker": {"host": "server", "colour": "blue"}, "node": {"host": "server"}, "alloy": {"host": "server"}}
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": path,
                "static_configs": [{"targets": [address], "labels": labels.get(job, {})}],
            }
            for job, (address, path) in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (folder / "rules.yml").write_text(rules.read_text())
    options = [f"--web.listen-address=127.0.0.1:{port}", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with subprocess.Popen([*command("prometheus", folder), *options], cwd=folder, stderr=subprocess.PIPE) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def live_through_a_day(world: Sandbox, worker: WorkerProcess) -> None:
    """Good and bad generations and size requests."""
    world.openai.fault("moderation_blocked", contains="forbidden")
    queued = [world.producer.b2c(), world.producer.b2b(), world.producer.b2c(prompt="forbidden")]
    world.photos.put("person.jpg", PERSON.read_bytes())
    with httpx.Client(base_url=worker.url, timeout=60) as client:
        for name in ("person.jpg", "garment.jpg"):
            client.post("/estimate-body", json={"image_url": world.photos.url(name), "height_cm": 173})

    def is_over(one: Queued) -> bool:
        return world.session(one.channel, one.session_id)["status"] in ENDED

    for one in queued:
        wait_for(partial(is_over, one), 60, f"{one.session_id} does not end")


def has_data(answer: dict[str, Any]) -> bool:
    """True when a series has a number: a quantile is NaN until something is observed."""
    return any(one["value"][1] != "NaN" for one in answer.get("data", {}).get("result", []))


@pytest.fixture(scope="module")
def answers(world: Sandbox, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Query, Any]]:
    """The answer of the Prometheus to each query, asked again until there is one."""
    world.reset()
    worker = WorkerProcess(world, **QUICK, PROMPT_EXPERIMENT='{"2026-12-a": 1}')
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        recorded() as exporters,
        prometheus(folder, worker.url.removeprefix("http://"), exporters, rendered / "prometheus_rules.yml") as url,
    ):

        def ask(expression: str) -> Any:
            try:
                return HTTP.get(f"{url}/api/v1/query", params={"query": expression}, timeout=10).json()
            except (httpx.HTTPError, ValueError):  # it starts
                return {}

        try:
            worker.start(ready=False)
            # It has to be seen before it works, so that counters can be seen to rise.
            wait_for(
                lambda: ask("wearon_ready == 1").get("data", {}).get("result"),
                120,
                lambda: f"not ready:\n{worker.output()[-2000:]}",
            )
            live_through_a_day(world, worker)
            asked = queries("prometheus")
            found: dict[Query, Any] = {}

            def all_answered() -> bool:
                """A value that was seen once counts: a rate falls to 0 again when nothing more happens."""
                for query in asked:
                    if not has_data(found.get(query, {})):
                        found[query] = ask(query.expression)
                return all(has_data(found[query]) for query in asked if query.panel not in RARE)

            with suppress(AssertionError):  # the tests say which one is missing
                wait_for(all_answered, 60, "no data")
            yield found
        finally:
            worker.kill()


@pytest.mark.parametrize(
    "query", queries("prometheus"), ids=lambda query: f"{query.board}: {query.panel} {query.legend}"
)
def test_panel_has_data(query: Query, answers: dict[Query, Any]) -> None:
    answer = answers[query]
    assert answer.get("status") == "success", answer
    if query.panel not in RARE:
        assert has_data(answer), (query.expression, json.dumps(answer))

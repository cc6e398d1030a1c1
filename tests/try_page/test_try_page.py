"""The page over a real server: by the form that it sends, and in Chromium."""

import asyncio
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.try_page.server import SAMPLE, app

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the page was not served in time"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/try"
    server.should_exit = True
    thread.join(10)


def test_form_with_a_photo_is_answered_as_the_api_does_with_a_picture_beside(base: str) -> None:
    facts = {"height_cm": "173.4", "weight_kg": "77.3", "sex": "", "chart": "men-eu"}

    found = httpx.post(base, data=facts, files={"image": SAMPLE.read_bytes()}, timeout=30).raise_for_status().json()

    assert found["basis"] == "front"
    assert sum(found["size_probabilities"].values()) == pytest.approx(1, abs=0.005)
    assert found["picture"].startswith("data:image/jpeg;base64,")


def test_refused_photo_and_impossible_weight_are_explained(base: str) -> None:
    broken = httpx.post(base, data={"height_cm": "173"}, files={"image": b"no picture"}, timeout=30)
    heavy = httpx.post(base, data={"height_cm": "173", "weight_kg": "250"})

    assert (broken.status_code, heavy.status_code) == (400, 422)
    assert "possible" in heavy.json()["detail"]


def test_page_shows_the_size_and_the_outline_in_a_browser(base: str, tmp_path: Path) -> None:
    page = _dump(f"{base}?sample&height_cm=173.4&weight_kg=77.5", tmp_path)

    assert 'data-state="answered"' in page
    assert re.search(r'<h2 id="size">[A-Z]+ \((un)?sure, \d+ %\)</h2>', page)
    assert page.count("<rect") == 6
    assert 'src="data:image/jpeg;base64,' in page


def _dump(url: str, folder: Path) -> str:
    """The page's elements once its scripts have gone quiet."""
    assert BROWSER is not None, "install chromium or google-chrome"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=20000",
    ]
    done = subprocess.run(
        [BROWSER, *options, "--dump-dom", url], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout

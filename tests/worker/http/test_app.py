"""The committed description of the size API."""

import json
from pathlib import Path

from worker.http.app import openapi


def test_committed_document_is_that_of_the_running_api() -> None:
    committed = json.loads((Path(__file__).parents[3] / "docs/openapi.json").read_text())
    assert committed == openapi(), "The size API has changed; type `make openapi` and commit docs/openapi.json."

"""Settings that the worker's own reader refuses or does not know: JSON on stdin, a JSON list of sentences on stdout."""

import json
import os
import sys
from collections.abc import Iterator
from difflib import get_close_matches


def main(root: str) -> None:
    """Read with the worker of the repository at `root`; print no sentence where its libraries are not installed."""
    sys.path.insert(0, root)
    try:
        from worker import settings  # noqa: PLC0415
        from worker.errors import SettingsError  # noqa: PLC0415
    except (
        ImportError
    ):  # Ansible of another environment than `make setup` makes; the worker reads the settings at its start
        print("[]")
        return
    given = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in json.load(sys.stdin).items()
    }
    found = list(unknown(given, list(settings.Settings.model_fields)))
    os.environ.clear()
    os.environ.update({name.upper(): value for name, value in given.items()})
    try:
        settings.load()
    except SettingsError as error:
        found.append(str(error))
    print(json.dumps(found))


def unknown(given: dict[str, str], known: list[str]) -> Iterator[str]:
    """Sentences about names that the worker would not read."""
    for name in sorted({*given} - {*known}):
        near = get_close_matches(name, known, 1)
        hint = f": {near[0]} is one" if near else ""
        yield f"worker_settings has {name}, which is no setting of the worker{hint} (worker/settings/)"


if __name__ == "__main__":
    main(sys.argv[1])

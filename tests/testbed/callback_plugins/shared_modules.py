"""Share the archives of Ansible's modules between all runs of a test: each run builds its own, up to a second each.

Only a speed-up: without TESTBED_MODULES, or with another layout of Ansible's temporary folder, each run builds its own.
"""

import os
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Link the folder of this run to the shared one, before the first task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "shared_modules"

    def __init__(self) -> None:
        super().__init__()
        if shared := os.environ.get("TESTBED_MODULES"):
            Path(shared).mkdir(parents=True, exist_ok=True)
            own = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
            if not own.exists():
                own.symlink_to(shared)

"""Release the deploy lock of a playbook that fails: a play that comes after the failure would not run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = "name: deployment"
_TAKEN, _RELEASED = "Take the deploy lock from", "Release the deploy lock and"


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Remember the lock that the playbook has taken, and the first failure."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "deployment"

    def __init__(self) -> None:
        super().__init__()
        self._lock: dict[str, Any] = {}
        self._failure = ""

    def v2_runner_on_ok(self, result: Any) -> None:
        if _TAKEN in result.task_name and result.result.get("stdout"):
            server = result.result.get("_ansible_delegated_vars", {})
            self._lock = {
                "__worker_ticket": json.loads(result.result["stdout"]),
                "__worker_step": " ".join(result.result["cmd"][:-1]),
            }
            if server.get("ansible_user"):
                self._lock["ansible_user"] = server["ansible_user"]
        elif _RELEASED in result.task_name:
            self._lock = {}

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._failure = self._failure or f"failed: {result.task_name} ({result.host.get_name()})"

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._failure = self._failure or f"failed: {result.host.get_name()} cannot be reached"

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Run unlock.yml with the arguments of this playbook."""
        if not self._lock:
            return
        failed = any(stats.failures.get(host) or stats.dark.get(host) for host in stats.processed)
        given = {"__worker_result": (self._failure or "failed") if failed else "ok", **self._lock}
        arguments = [one for one in sys.argv[1:] if one not in context.CLIARGS["args"]]
        unlock = Path(__file__).parents[1] / "unlock.yml"
        command = [sys.argv[0], str(unlock), *arguments, "-e", json.dumps(given)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        self._lock = {}
        if ended.returncode:
            self._display.warning(f"The deploy lock is not released: {ended.stdout}{ended.stderr}")

"""The last step of `template`: keep the rendered file."""

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        folder, args = Path((task_vars or {})["project_dir"]), self._task.args
        target = Path(args["dest"])
        if not target.is_relative_to(folder):
            target = folder / str(target).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(args["content"] if "content" in args else Path(args["src"]).read_text())
        return {"changed": True}

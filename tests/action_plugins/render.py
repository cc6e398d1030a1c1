"""Ansible's `template` without a host: it writes below `project_dir` on this machine, without a module's process."""

from typing import Any

from ansible.plugins.action.template import ActionModule as Template


class ActionModule(Template):  # type: ignore[misc]
    """Ansible's own, up to the rendered file."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        return dict(super().run(tmp, {**(task_vars or {}), "ansible_search_path": [self._task.args["role"]]}))

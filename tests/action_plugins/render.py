"""Ansible's `template` without a host: it writes below `project_dir` on this machine, without a module's process."""

from collections.abc import Iterator
from typing import Any

from ansible.plugins.action.template import ActionModule as Template

Variables = dict[str, Any]


class ActionModule(Template):  # type: ignore[misc]
    """Ansible's own, up to the rendered file, for each of the variable `files`: a task for each would fork for each."""

    TRANSFERS_FILES = False
    _task: Any
    _templar: Any

    def run(self, tmp: str | None = None, task_vars: Variables | None = None) -> Variables:
        # Ansible's own copies its task for each file, and with the task's parents all other tasks.
        self._task = self._task.copy(exclude_parent=True, exclude_tasks=True)
        templar, result = self._templar, {}
        for file in (task_vars or {})["files"]:
            for variables in _turns(file, {**(task_vars or {}), **file.get("vars", {})}, templar):
                self._templar = templar.copy_with_new_env(available_variables=variables)
                self._task.args = self._templar.template({key: file[key] for key in ("role", "src", "dest")})
                search = {"ansible_search_path": [self._task.args["role"]]}
                result = dict(super().run(tmp, {**variables, **search}))
        return result


def _turns(file: Variables, variables: Variables, templar: Any) -> Iterator[Variables]:
    """The variables of each turn of the file's loop."""
    if "loop" not in file:
        yield variables
        return
    control = file.get("loop_control", {})
    items = templar.copy_with_new_env(available_variables=variables).template(file["loop"])
    for number, item in enumerate(items):
        index = {control["index_var"]: number} if "index_var" in control else {}
        yield {**variables, control.get("loop_var", "item"): item, **index}

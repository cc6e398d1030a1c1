"""The files that roles bring to a host, rendered by Ansible itself without a host."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared import once

ROOT = Path(__file__).parents[1]
#: The example vault holds CHANGE_ME, which the roles refuse.
SECRETS = {
    f"vault_{name}": "dummy-dummy-dummy-dummy-dummy"
    for name in (
        "redis_password",
        "worker_supabase_service_role_key",
        "worker_openai_api_key",
        "grafana_admin_password",
        "grafana_secret_key",
        "whatsapp_bridge_secret",
    )
}
#: Everything that can be switched on.
FULL = {
    "grafana_whatsapp_phones": ["+491701234567"],
    "grafana_whatsapp_groups": ["120363012345678901@g.us"],
    "grafana_email_to": ["ops@example.com", "boss@example.com"],
    "grafana_smtp_host": "smtp.example.com:587",
    "grafana_smtp_from": "alerts@example.com",
    "grafana_webhook_url": "https://hooks.example.com/a$b",
    "grafana_heartbeat_url": "https://watcher.example.com/ping",
    "backup_age_recipient": "age1" + "q" * 58,
}
#: The least: one recipient, one second way, no bridge, a managed Redis.
SPARSE = {
    "grafana_whatsapp_phones": ["491701234567"],
    "grafana_email_to": ["ops@example.com"],
    "grafana_smtp_host": "smtp.example.com:587",
    "grafana_smtp_from": "alerts@example.com",
    "grafana_webhook_url": "",
    "redis_enabled": False,
    "redis_password": "",
    "worker_redis_url": "rediss://default:secret@managed.example:6380/0",
    "worker_redis_ca": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "whatsapp_transport": "none",
    "prometheus_scrape_interval": "30s",
}
#: WhatsApp by Meta's own service; the token is long to be seen wherever it should not be.
CLOUD = {
    **SPARSE,
    "whatsapp_transport": "cloud_api",
    "grafana_whatsapp_phones": ["+491701234567", "4915112345678"],
    "grafana_whatsapp_number_id": "106540352242922",
    "grafana_whatsapp_token": "EAAGm0PX4ZCpsBAO4ZB0ZCkOqZC3example0token",
}
LAYOUT = "playbooks/group_vars/all/layout.yml"
Task = dict[str, Any]
TEMPLATE, VARIABLES = "ansible.builtin.template", ("ansible.builtin.include_vars", "ansible.builtin.set_fact")


def stack(factory: pytest.TempPathFactory, inventory: str, **variables: Any) -> Path:
    """Folder with the files of an inventory's first host; each set of variables is rendered once in a test run."""
    key = hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()[:8]
    return once(factory, f"{inventory}-{key}", partial(_render_stack, inventory, variables))


def _render_stack(inventory: str, variables: dict[str, Any], folder: Path) -> None:
    render(folder, inventory, **variables)
    (folder / "nginx/tls").mkdir()


def render(folder: Path, inventory: str, root: Path = ROOT, **variables: Any) -> Path:
    """Write the files of the first host into `folder`, which is laid out like a host's project directory."""
    folder.mkdir(parents=True, exist_ok=True)
    applied = [line["role"] for line in yaml.safe_load((root / LAYOUT).read_text())["stack"]]
    (folder / "tasks.json").write_text(json.dumps(list(rendering([root / "roles" / role for role in applied]))))
    variables = {**SECRETS, **variables, "project_dir": str(folder), "__roles": applied}
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "tests/render.yml",
        "-i",
        f"inventory/{inventory}",
        "-e",
        f"@{LAYOUT}",
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(root / "inventory/production/.vault_password.example"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    result = subprocess.run(
        [*command, "-e", json.dumps(variables)], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (folder / "tasks.json").unlink()
    return folder


def roles() -> list[str]:
    """Every role of the tree."""
    return sorted(path.parent.name for path in (ROOT / "roles").glob("*/tasks"))


def rendering(folders: list[Path]) -> Iterator[Task]:
    """The tasks of roles that read variables, and between them a task for the templates that roles write."""
    tasks = [_kept(task, role) for role in folders for task in reachable(role / "tasks", "main.yml")]
    for is_file, group in groupby(filter(None, tasks), lambda task: "dest" in task):
        if is_file:
            yield {"name": "Render the templates", "render": {}, "vars": {"files": list(group)}}
        else:
            yield from group


def _kept(task: Task, role: Path) -> Task:
    """A task that reads variables, a file for `render`, or nothing."""
    kept: Task = {key: task[key] for key in ("name", "loop", "loop_control") if key in task}
    if TEMPLATE in task:
        source, target = task[TEMPLATE]["src"], task[TEMPLATE]["dest"]
        file = source if source.startswith("{{ playbook_dir") else f"{role}/templates/{source}"
        return {**kept, "vars": task.get("vars", {}), "role": str(role), "src": file, "dest": target}
    return next(({**kept, module: task[module]} for module in VARIABLES if module in task), {})


def reachable(folder: Path, name: str) -> Iterator[Task]:
    """The tasks of a file, of its blocks and of the files that it imports."""
    for task in flat(yaml.safe_load((folder / name).read_text())):
        yield task
        if "ansible.builtin.import_tasks" in task:
            yield from reachable(folder, task["ansible.builtin.import_tasks"])


def flat(tasks: list[Task]) -> Iterator[Task]:
    for task in tasks:
        yield task
        yield from flat([one for key in ("block", "rescue", "always") for one in task.get(key, [])])

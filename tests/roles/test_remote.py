"""scripts/remote.sh, which the workflow on GitHub calls. On real hosts: tests/molecule/workers/tests/test_remote.py."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.roles.conftest import ROOT

SETTINGS = {"ACTION": "deploy", "VERSION": "v1.2.3@sha256:abc", "SSH_KEY": "key", "SSH_KNOWN_HOSTS": "hosts"}
#: Stands in for Ansible: says what it was given, and what lies in the files that it was given.
PLAYBOOK = """#!/bin/sh
echo "arguments: $*"
for file in "$ANSIBLE_PRIVATE_KEY_FILE" "$ANSIBLE_VAULT_PASSWORD_FILE"; do stat -c %a "$file"; cat "$file"; done
echo "${ANSIBLE_SSH_COMMON_ARGS}"; cat "$(dirname "$ANSIBLE_PRIVATE_KEY_FILE")/known_hosts"
echo "secrets in the environment: ${SSH_KEY:-none} ${VAULT_PASSWORD:-none}"
exit 7
"""


def remote(folder: Path, playbook: str = PLAYBOOK, **environment: str) -> subprocess.CompletedProcess[str]:
    program = folder / "bin" / "ansible-playbook"
    program.parent.mkdir(exist_ok=True)
    program.write_text(playbook)
    program.chmod(0o755)
    settings = {**SETTINGS, "VAULT_PASSWORD": "password", "RUNNER_TEMP": str(folder), **environment}
    path = f"{program.parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "scripts/remote.sh"],
        cwd=ROOT,
        env={**os.environ, **settings, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("action", "version", "arguments"),
    [
        (
            "deploy",
            "v1.2.3@sha256:abc",
            "playbooks/provision_new.yml playbooks/update_worker.yml -e worker_tag=v1.2.3@sha256:abc",
        ),
        ("rollback", "", "playbooks/rollback_worker.yml"),
        ("rollback", "v1.2.2", "playbooks/rollback_worker.yml -e to=v1.2.2"),
        ("provision", "", "playbooks/site.yml"),
        ("check", "", "playbooks/site.yml --check"),
    ],
)
def test_action_is_a_playbook(tmp_path: Path, action: str, version: str, arguments: str) -> None:
    run = remote(tmp_path, ACTION=action, VERSION=version)
    assert f"arguments: --inventory inventory/production {arguments}\n" in run.stdout
    assert run.returncode == 7, "the playbook's failure is the job's"


@pytest.mark.parametrize("version", ["v1 ansible_connection=local", "{{ lookup('pipe', 'id') }}", "v1\n", "v1'"])
@pytest.mark.parametrize("action", ["deploy", "rollback"])
def test_version_is_nothing_but_a_tag(tmp_path: Path, action: str, version: str) -> None:
    """A version that Ansible reads as more than one value could run programs beside the secrets of the workflow."""
    run = remote(tmp_path, ACTION=action, VERSION=version)
    assert run.returncode == 2
    assert "it must be a tag" in run.stderr
    assert "arguments:" not in run.stdout


def test_database_comes_before_the_roles_and_the_worker(tmp_path: Path) -> None:
    run = remote(tmp_path, DATABASE_URL="postgresql://me:s3cret@db/x")
    playbooks = re.findall(r"playbooks/(\w+)", run.stdout)
    assert playbooks == ["database", "provision_new", "update_worker"]
    assert "s3cret" not in run.stdout + run.stderr
    assert "the SQL functions are not applied" in remote(tmp_path).stderr


@pytest.mark.parametrize(("changed", "code"), [("changed=0", 0), ("changed=3", 1)])
def test_check_fails_when_a_host_differs_from_the_repository(tmp_path: Path, changed: str, code: int) -> None:
    run = remote(tmp_path, f"#!/bin/sh\necho 'wearon-1 : ok=9 {changed} unreachable=0'", ACTION="check")
    assert run.returncode == code
    assert ("These hosts differ from the repository" in run.stderr) is bool(code)


def test_rehearsal_opens_the_newest_archive_with_an_identity_that_leaves(tmp_path: Path) -> None:
    run = remote(tmp_path, ACTION="rehearse", BACKUP_IDENTITY="AGE-1")
    assert f"playbooks/restore.yml -e check_only=true -e identity={tmp_path}/remote." in run.stdout
    assert not list(tmp_path.glob("remote.*"))
    assert "BACKUP_IDENTITY is empty" in remote(tmp_path, ACTION="rehearse").stderr


def test_workflow_checks_every_night_and_rehearses_every_week() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    night, week = (one["cron"] for one in workflow[True]["schedule"])
    assert (night.split()[2:], week.split()[2:]) == (["*"] * 3, ["*", "*", "1"])
    action = workflow["jobs"]["deploy"]["steps"][-1]["env"]["ACTION"]
    assert f"github.event.schedule == '{week}' && 'rehearse'" in action
    assert "github.event.schedule && 'check'" in action


@pytest.mark.parametrize(("answer", "breaks"), [("true", True), ("false", False), ("", False)])
@pytest.mark.parametrize("action", ["deploy", "rollback", "provision"])
def test_lock_of_a_dead_run_can_be_broken(tmp_path: Path, action: str, answer: str, breaks: bool) -> None:
    asked = remote(tmp_path, ACTION=action, BREAK_LOCK=answer).stdout.splitlines()[0]
    assert asked.endswith(" -e break_lock=true") is breaks


def test_workflow_asks_whether_to_break_the_lock() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    asked = workflow[True]["workflow_dispatch"]["inputs"]["break_lock"]  # YAML's `on` is true
    assert (asked["type"], asked["default"]) == ("boolean", False)
    assert workflow["jobs"]["deploy"]["steps"][-1]["env"]["BREAK_LOCK"] == "${{ inputs.break_lock || false }}"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("worker_tag: v1\n", "ghcr.io/wearon/wearon-worker"),
        ("worker_image: ghcr.io/fork/worker\n", "ghcr.io/fork/worker"),
        ('worker_image: "ghcr.io/fork/worker" # ours\n', "ghcr.io/fork/worker"),
    ],
)
def test_image_is_published_where_the_inventory_says(tmp_path: Path, settings: str, name: str) -> None:
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/main.yml").write_text(settings)
    (tmp_path / "group_vars/all/vault_worker.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6431\n")
    make = ["make", "--silent", "image-name", f"INVENTORY={tmp_path}"]
    assert subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout == f"image={name}\n"


def test_credentials_are_files_of_this_user_alone_and_leave(tmp_path: Path) -> None:
    run = remote(tmp_path)
    assert "600\nkey\n600\npassword\n" in run.stdout
    assert "StrictHostKeyChecking=yes" in run.stdout
    assert "hosts\nsecrets in the environment: none none" in run.stdout
    assert not list(tmp_path.glob("remote.*"))


@pytest.mark.parametrize("name", ["ACTION", "SSH_KEY", "SSH_KNOWN_HOSTS", "VAULT_PASSWORD", "VERSION"])
def test_missing_setting_is_named(tmp_path: Path, name: str) -> None:
    run = remote(tmp_path, **{name: ""})
    assert run.returncode not in {0, 7}
    assert name in run.stderr


def test_unknown_action_is_refused(tmp_path: Path) -> None:
    run = remote(tmp_path, ACTION="destroy")
    assert run.returncode == 2
    assert "deploy, rollback, provision, check and rehearse are known" in run.stderr


def test_shell_logs_in_as_ansible_does(tmp_path: Path) -> None:
    """`make shell` and `make logs` take address, user, port and key from the inventory."""
    host = {"ansible_host": "192.0.2.1", "ansible_port": 2222, "ansible_user": "deploy"}
    listed = {"server": {"hosts": ["wearon-1"]}, "_meta": {"hostvars": {"wearon-1": host}}}
    for name, body in {"ansible-inventory": f"echo '{json.dumps(listed)}'", "ssh": 'echo "$*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "scripts/ssh.sh", "sudo", "docker", "ps"]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert asked == "-t -p 2222 -l deploy 192.0.2.1 sudo docker ps\n"


def test_shell_ends_with_the_sentence_of_ansible_where_the_inventory_cannot_be_read(tmp_path: Path) -> None:
    for name, body in {"ansible-inventory": "echo 'no vault secrets found' >&2; exit 1", "ssh": 'echo "$*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "scripts/ssh.sh", "sudo", "docker", "ps"]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout, asked.stderr) == (1, "", "no vault secrets found\n")


def test_setup_brings_the_programs_that_the_deploy_page_types(tmp_path: Path) -> None:
    """`ansible-vault` and `ansible-playbook` come before the first `make deploy`."""
    make = ["make", "--dry-run", "setup", f"VENV={tmp_path}/venv"]
    steps = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-r requirements/infra.txt" in steps

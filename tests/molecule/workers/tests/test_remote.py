"""The script that the workflow on GitHub calls, with its credentials in the environment."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.molecule.hosts import ROOT, SCENARIO, STATE, docker


def known_hosts() -> str:
    """Each host's key, read on the host itself as docs/deploy.md says."""
    lines = []
    for host in ("first", "second"):
        address = docker("inspect", "-f", "{{.NetworkSettings.Networks.testbed.IPAddress}}", host)
        lines.append(f"{address} {docker('exec', host, 'cat', '/etc/ssh/ssh_host_ed25519_key.pub')}")
    return "\n".join(lines)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Both inventories of the scenario as one, without the test bed's own SSH options."""
    folder = tmp_path / "inventory"
    (folder / "group_vars/all").mkdir(parents=True)
    (folder / "hosts.yml").symlink_to(SCENARIO / "inventory/hosts.yml")
    (folder / "addresses.yml").symlink_to(SCENARIO / "inventory/addresses.yml")
    testbed = (ROOT / "tests/testbed/inventory/group_vars/all/testbed.yml").read_text()
    kept = [line for line in testbed.splitlines() if not line.startswith(("ansible_ssh_", "ansible_user"))]
    (folder / "group_vars/all/testbed.yml").write_text("\n".join(kept))
    (folder / "group_vars/all/main.yml").write_text(
        (SCENARIO / "inventory/group_vars/all/main.yml").read_text() + "ansible_user: deploy\n"
    )
    return folder


def remote(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    credentials = {
        "SSH_KEY": (STATE / "id_ed25519").read_text(),
        "SSH_KNOWN_HOSTS": known_hosts(),
        "VAULT_PASSWORD": "unused",
        "ACTION": "provision",
        "VERSION": "",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        "RUNNER_TEMP": str(tmp_path),
    }
    return subprocess.run(
        ["bash", "scripts/remote.sh"],
        cwd=ROOT,
        env={**os.environ, **credentials, **environment},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )


def test_host_with_another_key_is_not_talked_to(tmp_path: Path, inventory: Path) -> None:
    swapped = known_hosts().split("\n")
    names, keys = zip(*(line.split(" ", 1) for line in swapped), strict=True)
    run = remote(
        tmp_path,
        INVENTORY=str(inventory),
        SSH_KNOWN_HOSTS="\n".join(f"{name} {key}" for name, key in zip(names, reversed(keys), strict=True)),
    )
    assert run.returncode != 0
    assert "Host key verification failed" in run.stdout + run.stderr
    assert not list(tmp_path.glob("remote.*")), "credentials were left behind"

"""Fixtures that reach the hosts of a scenario, the neighbour, and the playbooks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from tests.molecule.hosts import ROOT, SCENARIO, STATE, Played
from tests.sandbox.database import Database
from tests.sandbox.records import Records

#: What a client that trusts the test authority says to curl.
CURL = "curl --silent --show-error --max-time 10 --cacert /state/pebble-root.crt"


@pytest.fixture(scope="session")
def server() -> Host:
    """Inside the host with the public address."""
    return testinfra.get_host("docker://site")


@pytest.fixture(scope="session")
def neighbour() -> Host:
    """A machine beside it."""
    return testinfra.get_host("docker://testbed-neighbour")


@pytest.fixture(scope="session")
def curl(neighbour: Host) -> Callable[[str], str]:
    """A request from the neighbour; the output, or `curl: ...` when there was no answer."""

    def ask(arguments: str) -> str:
        result = neighbour.run(f"{CURL} {arguments}")
        return str(result.stdout or result.stderr)

    return ask


@pytest.fixture(scope="session")
def sandbox() -> dict[str, str]:
    """Addresses and keys of the world around the worker."""
    answer: dict[str, str] = json.loads(Path(os.environ.get("TESTBED_SANDBOX", STATE / "sandbox.json")).read_text())
    return answer


@pytest.fixture
def records(sandbox: dict[str, str]) -> Iterator[Records]:
    """Sessions and ledgers of the database around the worker."""
    with Database(sandbox["database_url"]) as database:
        records = Records()
        records.database = database
        yield records


@pytest.fixture(scope="session")
def play() -> Callable[..., Played]:
    """Run a playbook against the hosts of the scenario."""

    def run(name: str, *arguments: str) -> Played:
        inventories = [f"--inventory={SCENARIO / 'inventory'}", f"--inventory={ROOT / 'tests/testbed/inventory'}"]
        command = [str(Path(sys.executable).with_name("ansible-playbook")), *inventories, f"playbooks/{name}.yml"]
        settings = {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",  # Molecule may set it, and it is stronger
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
        }
        return Played(
            subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, **settings},
                capture_output=True,
                text=True,
                timeout=420,
                check=False,
            )
        )

    return run

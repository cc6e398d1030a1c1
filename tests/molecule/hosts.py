"""The engine of the test bed and what a playbook run tells; fixtures are in conftest.py."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".cache" / "testbed" / "state"
SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", ROOT / "tests" / "molecule" / "site"))
#: What runs on a server where blue serves.
SERVICES = {
    *("redis", "redis-exporter", "celery-exporter", "worker-blue", "nginx", "prometheus", "node-exporter"),
    *("loki", "alloy", "grafana", "whatsapp-bridge"),
}


def docker(*arguments: str, check: bool = True) -> str:
    """The engine that runs the test bed."""
    return subprocess.run(
        ["docker", *arguments], check=check, capture_output=True, text=True, timeout=120
    ).stdout.strip()


class Played:
    """What a run of a playbook said and did."""

    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        self.code = run.returncode
        self.text = run.stdout + run.stderr
        recap = [line for line in run.stdout.splitlines() if " changed=" in line]
        self.changed = sum(int(line.split("changed=")[1].split()[0]) for line in recap)

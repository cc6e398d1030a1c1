"""The engine of the test bed, a stack's Redis, and what a playbook run tells; fixtures are in conftest.py."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from testinfra.host import Host

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".cache" / "testbed" / "state"
SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", ROOT / "tests" / "molecule" / "site"))
#: What runs on a server where blue serves.
SERVICES = {
    *("redis", "redis-exporter", "celery-exporter", "worker-blue", "nginx", "prometheus", "node-exporter"),
    *("loki", "alloy", "grafana", "whatsapp-bridge"),
}
#: The beginnings of all secrets of the scenario `site` and of what surrounds it.
SECRETS = [
    "site-site-site-site-site-site",
    "sk-sandbox",
    "eyJhbGciOiJIUzI1NiI",
    "testbed-grafana-",
    "testbed-whatsapp-",
]


def docker(*arguments: str, check: bool = True) -> str:
    """The engine that runs the test bed."""
    return subprocess.run(
        ["docker", *arguments], check=check, capture_output=True, text=True, timeout=120
    ).stdout.strip()


def ask_loki(server: Host, path: str, **parameters: str) -> Any:
    """Return the data of an answer of Loki; its image has no shell, so that Grafana's container asks."""
    url = f"http://loki:3100/loki/api/v1/{path}?{urlencode(parameters)}"
    answer = json.loads(server.check_output(f"docker exec wearon-grafana-1 wget -q -O - '{url}'"))
    return answer["data"]


class Played:
    """Output and effect of one run of a playbook."""

    def __init__(self, run: subprocess.CompletedProcess[str]) -> None:
        self.code = run.returncode
        self.text = run.stdout + run.stderr
        recap = [line for line in run.stdout.splitlines() if " changed=" in line]
        self.changed = sum(int(line.split("changed=")[1].split()[0]) for line in recap)


class StackRedis:
    """The one command that the producer needs, on the stack's Redis."""

    def __init__(self, server: Host) -> None:
        self._server = server

    def lpush(self, key: str, message: str) -> None:
        auth = 'export REDISCLI_AUTH=$(cut -d" " -f2 /run/secrets/redis.password.conf)'
        command = f'{auth}; redis-cli lpush {key} "$0"'
        assert self._server.run("docker exec wearon-redis-1 sh -c %s %s", command, message).rc == 0

"""playbooks/fire_drill.yml with a Docker that only pretends; on a real host: tests/molecule/site."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.programs import ROOT

#: Prometheus answers that the alert fires as soon as something was stopped, unless the file `deaf` is there.
DOCKER = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>calls
case "$*" in
  *api/v1/query*)
    if [ -e stopped ] && [ ! -e deaf ]; then result='{"value":[0,"1"]}'; else result=; fi
    echo "{\\"data\\":{\\"result\\":[$result]}}" ;;
  *grafana:3000*) cat notifications ;;
  stop*) touch stopped; echo 'grafana_alerting_notifications_total{integration="webhook",org="1"} 1' >>notifications ;;
  start*) rm -f stopped ;;
esac
"""

Drill = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    """Run the playbook on this machine, with programs that write down what they are asked."""
    for name, text in (("docker", DOCKER), ("systemd-run", '#!/bin/sh\necho systemd-run >>"$(dirname "$0")/calls"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "notifications").write_text("grafana_alerting_rule_evaluations_total 1\n")
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {"server": {"hosts": {"here": here}}, "workers": {"hosts": {"here": {}}}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": hosts}}))

    def run(**variables: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/fire_drill.yml"]
        places = {"fire_drill_dir": str(tmp_path), "project_dir": str(tmp_path)}
        places["__worker_programs"] = f"{tmp_path}/programs"
        command += ["-i", str(tmp_path / "hosts.json"), "-e", json.dumps({**places, **variables})]
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


def test_drill_breaks_measures_and_repairs(drill: Drill, tmp_path: Path) -> None:
    done = drill(drill="redis", yes=True)
    assert done.returncode == 0, done.stdout
    calls = (tmp_path / "calls").read_text().splitlines()
    asked = [call for call in calls if "exec" not in call]
    assert asked == ["systemd-run", "stop wearon-redis-1", "start wearon-redis-1"], "the repair is arranged first"
    assert re.search(r"redis +redis-down +\d+ +\d+", done.stdout)


def test_drill_repairs_although_nobody_was_told(drill: Drill, tmp_path: Path) -> None:
    (tmp_path / "deaf").touch()
    done = drill(drill="bridge", yes=True, fire_drill_limit_seconds=3)
    assert done.returncode != 0
    assert "Not told within 3 s: bridge" in done.stdout
    assert not (tmp_path / "stopped").exists()


def test_drill_does_not_begin_while_its_alert_fires(drill: Drill, tmp_path: Path) -> None:
    (tmp_path / "stopped").touch()
    done = drill(drill="redis", yes=True)
    assert done.returncode != 0
    assert "redis-down fires already: repair that first" in done.stdout
    assert re.search(r"redis +redis-down +failed", done.stdout)
    assert "stop wearon" not in (tmp_path / "calls").read_text()


def test_every_drill_names_a_rule(drill: Drill, rules: dict[str, object]) -> None:
    unknown = drill(drill="flood", yes=True)
    assert "There is no drill flood; there are redis, worker, crashes" in unknown.stdout
    text = (ROOT / "roles/fire_drill/vars/main.yml").read_text()
    named = [drill["rule"] for drill in yaml.safe_load(text)["__fire_drill_all"]]
    assert len(named) == 9
    assert set(named) <= rules.keys()

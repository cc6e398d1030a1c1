"""A made-up service in a copy of the tree: by one folder and one line every part of the host knows the service."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.render import ROOT, SECRETS, render

LINE = "  - {role: echo, hosts: server}\n"
FOLDER = {
    "defaults/main.yml": "echo_port: 7000\n",
    "meta/argument_specs.yml": """
        argument_specs: {main: {options: {echo_port: {type: int, default: 7000, description: Its port.}}}}""",
    "tasks/preflight.yml": """
        - name: Check the port
          ansible.builtin.assert: {that: echo_port < 8000, fail_msg: "echo_port must be below 8000"}""",
    "tasks/main.yml": """
        - name: Render the Compose fragment
          ansible.builtin.template: {src: compose.yml.j2, dest: "{{ compose_fragments_dir }}/echo.yml"}
        - name: Install its targets
          ansible.builtin.template: {src: targets.yml.j2, dest: "{{ prometheus_targets_dir }}/echo.yml"}
        - name: Install its probe
          ansible.builtin.template: {src: probe.j2, dest: "{{ prometheus_probes_dir }}/echo"}""",
    "templates/compose.yml.j2": "services: {echo: {image: 'echo:1.0.0'}, echo-exporter: {image: 'echo:1.0.0'}}",
    "templates/firewall.yml.j2": "public: [{{ echo_port }}]",
    "templates/targets.yml.j2": '- {targets: ["echo-exporter:9000"], labels: {job: echo}}',
    "templates/probe.j2": "#!/bin/sh\necho echo_up 1",
    "files/dashboards/echo.json": "{}",
    "files/alerts/echo.yml": """
        __grafana_alerts_echo:
          - {uid: echo-down, title: Echo is down, expr: "min(echo_up)", lt: 1, for: 30s, severity: critical,
             summary: Echo does not answer, description: Nothing comes back., absent: target-missing}""",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the service."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("inventory", "playbooks", "roles", "templates"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(ROOT / "tests/action_plugins", root / "tests/action_plugins")
    for path in (ROOT / "tests").glob("render*.yml"):
        shutil.copy(path, root / "tests")
    shutil.copy(ROOT / "ansible.cfg", root)
    for name, text in FOLDER.items():
        path = root / "roles/echo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("\n        ", "\n").lstrip("\n") + "\n")
    layout = root / "playbooks/group_vars/all/layout.yml"
    before = "  - {role: nginx,"
    assert layout.read_text().count(before) == 1
    layout.write_text(layout.read_text().replace(before, LINE + before))
    return root


@pytest.fixture(scope="module")
def host(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the server."""
    return render(tmp_path_factory.mktemp("host"), "local", tree)


def test_input_is_checked_before_anything_changes(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"echo: echo_port must be below 8000\s+Nothing was changed"):
        render(tmp_path, "local", tree, echo_port=9000)


def test_fragment_is_part_of_the_project(host: Path) -> None:
    project = yaml.safe_load((host / "docker-compose.prod.yml").read_text())
    assert [Path(one["path"]).stem for one in project["include"]].count("echo") == 1
    assert "echo" in yaml.safe_load((host / "compose.d/echo.yml").read_text())["services"]


def test_port_is_open(host: Path) -> None:
    assert "tcp dport { 22, 80, 443, 7000 } accept" in (host / "etc/wearon/firewall.nft").read_text()


def test_service_is_scraped_and_probed(host: Path) -> None:
    assert (host / "prometheus/targets.d/echo.yml").exists()
    assert (host / "prometheus/probes.d/echo").exists()


def test_alerts_are_evaluated_by_grafana_and_prometheus(host: Path) -> None:
    grafana = yaml.safe_load((host / "grafana/staged/provisioning/alerting/rules.yml").read_text())
    assert [[rule["uid"] for rule in group["rules"]] for group in grafana["groups"] if group["name"] == "echo"] == [
        ["echo-down"]
    ]
    rules = (host / "prometheus/staged/rules.d/alerts.yml").read_text()
    assert "(min(echo_up)) < 1" in rules
    assert 'absent(up{job=\\"echo\\"})' in rules, "its targets file may go missing, too"


def test_containers_are_updated_in_the_place_of_its_line(tree: Path, host: Path, tmp_path: Path) -> None:
    """update_services.yml runs itself; without a tag only the update is left."""
    names = ["alloy", "echo", "echo-exporter", "grafana", "loki", "nginx", "node-exporter", "prometheus", "redis"]
    engine = tmp_path / "docker"
    engine.write_text(f"""#!/bin/sh
case "$*" in
  *"config --services") printf '%s\\n' {" ".join(names)} ;;
  *" up "*) echo "$*" >>{tmp_path}/updated ;;
esac""")
    engine.chmod(0o755)
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    variables = {**SECRETS, **here, "project_dir": str(host), "preflight_roles": ["echo"]}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/update_services.yml"]
    run = subprocess.run(
        [*command, "--tags", "none", "-i", "inventory/local", "-e", json.dumps(variables)],
        cwd=tree,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(tree / "ansible.cfg"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    updated = [line.split()[-1] for line in (tmp_path / "updated").read_text().splitlines()]
    order = ["redis", "node-exporter", "prometheus", "loki", "alloy", "grafana", "echo", "echo-exporter", "nginx"]
    assert updated == order

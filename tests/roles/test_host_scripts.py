"""Scripts that a host runs, with an engine and programs that do what the test wants."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.render import FULL
from tests.roles.conftest import ROOT, Rendered

#: Encrypts nothing; reads what it is given as a file or by standard input.
AGE = """while [ $# -gt 1 ]; do [ "$1" != --output ] || output=$2; shift; done
if [ "$1" = "$output" ]; then cat >"$output"; else cat "$1" >"$output"; fi"""


@dataclass
class Host:
    """A folder laid out like the server; each call of the engine is noted."""

    folder: Path

    def program(self, name: str, body: str) -> None:
        path = self.folder / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def engine(self, body: str) -> None:
        self.program("docker", f'echo "$*" >>{self.folder}/calls\n{body}')

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.folder / "bin" / script), *arguments],
            env={**os.environ, "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}"},
            input="",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self) -> list[str]:
        """Those since the last look."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def host(render: Callable[..., Rendered], tmp_path: Path) -> Host:
    stack, one = render("local", **FULL).folder, Host(tmp_path)
    for path in (stack / "bin").iterdir():
        text = path.read_text().replace(str(stack), str(tmp_path)).replace("/var/backups/wearon", f"{tmp_path}/backups")
        one.write(f"bin/{path.name}", text)
    one.write("prometheus/probes.d/reboot", (stack / "prometheus/probes.d/reboot").read_text())
    (tmp_path / "backups").mkdir()
    one.program("age", AGE)
    one.engine("")
    return one


# --- backup and restore


def test_backup_whose_tar_died_is_none(host: Host) -> None:
    host.write("backup.d/redis", '#!/bin/sh\necho kept >"$2/queue"\n', 0o755)
    host.program("tar", "exit 2")
    run = host.run("backup")
    assert (run.returncode, run.stdout) == (2, "")
    assert not list((host.folder / "backups").glob("*.tar.age"))
    (host.folder / "programs/tar").unlink()
    archive = host.run("backup").stdout.strip()
    assert "./redis/queue" in subprocess.check_output(["tar", "--list", "--file", archive], text=True)
    assert [path.name for path in (host.folder / "backups").iterdir() if path.name != ".lock"] == [Path(archive).name]


def test_broken_archive_leaves_nothing_behind(host: Host) -> None:
    """The part of the archive that age could read holds secrets."""
    host.program("age", f"{AGE}\nexit 1")
    assert host.run("restore", str(host.write("archive", "half of it"))).returncode == 1
    assert [path.name for path in (host.folder / "backups").iterdir()] == [".lock"]


@pytest.fixture
def archive(host: Host) -> Path:
    """An archive of Redis; on the host blue serves, green is left of a rollout, and neither of them runs."""
    host.write("saved/redis/queue", "kept")
    subprocess.check_call(["tar", "--create", "--file", "archive", "--directory", "saved", "."], cwd=host.folder)
    host.write("nginx/upstreams/worker/local.conf", "server 172.30.250.11:8000 max_fails=0; # blue\n")
    host.write("backup.d/redis", '#!/bin/sh\ncp "$2/queue" "$(dirname "$0")/../restored"\n', 0o755)
    host.engine("""case "$*" in
  "ps --all"*colour=blue*) echo blue ;;
  "ps --all"*) echo blue green ;;
  "ps --quiet"*) echo blue green ;;
  inspect*) echo healthy ;;
esac""")
    return host.folder / "archive"


def test_restore_after_one_that_was_cut_off_starts_the_worker_that_served(host: Host, archive: Path) -> None:
    run = host.run("restore", str(archive))
    assert run.returncode == 0, run.stderr
    assert (host.folder / "restored").read_text() == "kept"
    workers, stop, up, start = [call for call in host.calls() if not call.startswith(("ps", "inspect"))]
    assert workers == "stop blue green", "generations end in Redis, which stops after them"
    assert stop.endswith("--profile worker stop")
    assert up.endswith("up --detach --wait")
    assert start == "start blue"
    assert [path.name for path in (host.folder / "backups").iterdir()] == [".lock"]
    host.program("age", "exit 1")
    assert host.run("restore", str(archive)).returncode == 1
    assert host.calls() == [], "what cannot be decrypted stops nothing"


@pytest.mark.parametrize(
    ("hook", "up", "code"), [("exit 3", "exit 0", 3), ("kill $PPID", "exit 0", 1), ("exit 0", "exit 5", 5)]
)
def test_restore_that_fails_leaves_a_worker(host: Host, archive: Path, hook: str, up: str, code: int) -> None:
    host.write("backup.d/redis", f"#!/bin/sh\n{hook}\n", 0o755)
    host.engine(f"""case "$*" in *" up "*) {up} ;; ps*) echo blue ;; esac""")
    assert host.run("restore", str(archive)).returncode == code
    calls = host.calls()
    assert calls[-2].endswith("up --detach --wait")
    assert calls[-1] == "start blue"


def test_restore_ends_when_the_worker_is_healthy_or_names_one_that_is_not(host: Host, archive: Path) -> None:
    host.program("sleep", "exit 0")
    answers = "[ -e once ] && echo healthy || { touch once; echo starting; }"
    for answer, code in ((f"cd {host.folder}; {answers}", 0), ("echo unhealthy", 1)):
        host.engine(f"""case "$*" in ps*) echo blue ;; inspect*) {answer} ;; esac""")
        run = host.run("restore", str(archive))
        assert run.returncode == code, run.stderr
    assert (
        run.stderr == "The archive is restored, but the worker is not healthy after 180 s: docker logs --tail 50 blue\n"
    )


def test_rehearsal_restores_the_newest_archive_into_a_scratch_folder_while_the_stack_runs(
    host: Host, archive: Path
) -> None:
    assert "there is no archive in" in host.run("restore", "--check-only").stderr
    for day in (1, 2):
        (host.folder / f"backups/wearon-{day}.tar.age").write_bytes(archive.read_bytes() if day == 2 else b"")
    hook = 'case $1 in restore) cp "$2/queue" "$RESTORE_TO/" ;; check) grep -q kept "$RESTORE_TO/queue" ;; esac'
    host.write("backup.d/redis", f"#!/bin/sh\n{hook}\n", 0o755)
    run = host.run("restore", "--check-only")
    assert (run.returncode, host.calls()) == (0, [])
    assert run.stdout == f"redis can be restored from {host.folder}/backups/wearon-2.tar.age\n"
    assert (host.folder / "backups/.rehearsed").exists()
    assert not list((host.folder / "backups").glob(".work*"))
    (host.folder / "backups/.rehearsed").unlink()
    host.write("backup.d/redis", "#!/bin/sh\n[ $1 = restore ]\n", 0o755)
    run = host.run("restore", "--check-only", str(archive))
    assert (run.returncode, run.stderr) == (1, f"redis cannot be restored from {archive}\n")
    assert not (host.folder / "backups/.rehearsed").exists(), "it proved nothing"


@pytest.mark.parametrize(
    ("role", "file"),
    [
        ("grafana", "data/grafana.db"),
        ("whatsapp_bridge", "data/sqlite3.db"),
        ("certbot", "config/live/wearon/fullchain.pem"),
    ],
)
def test_hook_finds_out_that_what_it_restored_cannot_be_read(
    rendered: Rendered, tmp_path: Path, role: str, file: str
) -> None:
    path = tmp_path / role / file
    path.parent.mkdir(parents=True)
    hook = ["sh", str(rendered.folder / "backup.d" / role), "check"]
    environment = {**os.environ, "RESTORE_TO": str(tmp_path)}
    path.write_bytes(b"neither a database nor a certificate")
    assert subprocess.run(hook, env=environment, check=False, capture_output=True).returncode != 0
    path.unlink()
    path.parent.rmdir()
    assert subprocess.run(hook, env=environment, check=False, capture_output=True).returncode == 0, "nothing was saved"


def test_missing_restore_command_is_named(tmp_path: Path) -> None:
    variables = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "scripts_dir": str(tmp_path),
        "project_name": tmp_path.name,
        "identity": str(ROOT / "README.md"),
        "archive": str(ROOT / "README.md"),
    }
    playbook = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/restore.yml"]
    run = subprocess.run(
        [
            *playbook,
            "-i",
            "inventory/local",
            "--start-at-task=Restore the archive and start the stack again",
            "-e",
            json.dumps(variables),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert f"{tmp_path}/restore" in run.stdout + run.stderr


def test_documented_line_fetches_an_archive_every_day_and_says_only_what_failed(host: Host) -> None:
    (line,) = [one for one in (ROOT / "docs/deploy.md").read_text().splitlines() if "* * * cd " in one]
    program = host.write("wearon-worker/.venv/bin/ansible-playbook", "", 0o755)
    for code, output in ((0, ""), (2, f"playbooks/backup.yml {host.folder}/.wearon-vault\n")):
        program.write_text(f'#!/bin/sh\necho "$* $ANSIBLE_VAULT_PASSWORD_FILE"\nexit {code}\n')
        environment = {"HOME": str(host.folder), "PATH": "/usr/bin:/bin"}
        command = line.split(" ", 5)[5]
        assert subprocess.check_output(["sh", "-c", command], env=environment, text=True) == output


# --- what a script that was interrupted makes up for


@pytest.mark.parametrize(("service", "told"), [("grafana", "restart"), ("prometheus", "kill --signal HUP")])
def test_configuration_that_was_not_taken_over_is_taken_over_by_the_next_run(
    host: Host, service: str, told: str
) -> None:
    host.write(f"{service}/staged/rules.yml", "new")
    broken = host.write("broken", "")
    host.engine(f"""case "$*" in ps*) echo running ;; "{told} running") [ ! -e {broken} ] ;; esac""")
    assert host.run(f"activate-{service}").returncode != 0
    broken.unlink()
    host.calls()
    run = host.run(f"activate-{service}")
    assert (run.returncode, run.stdout) == (0, "reloaded\n"), run.stderr
    assert f"{told} running" in host.calls()
    assert host.run(f"activate-{service}").stdout == ""
    assert host.calls() == []


#: `run` checks the tree that it is given and the upstreams: whatever has the word `broken` in it is refused.
NGINX = """case "$*" in
  "run "*) ! grep -rq broken "$(dirname "{folder}/${{*##*/wearon/}}")" {folder}/upstreams ;;
  ps*) echo running ;;
esac"""


@pytest.fixture
def nginx(host: Host) -> Host:
    """It serves the configuration `first` to the upstream `blue`."""
    for name in ("staged/nginx.conf", "live/nginx.conf"):
        host.write(f"nginx/{name}", "first")
    host.write("nginx/upstreams/worker.conf", "blue")
    for name in ("tls", "maintenance"):
        (host.folder / "nginx" / name).mkdir()
    host.engine(NGINX.format(folder=host.folder / "nginx"))
    return host


def reloads(nginx: Host) -> int:
    """Those since the last look."""
    return sum(call.startswith("exec ") for call in nginx.calls())


def test_configuration_that_nginx_accepts_goes_live_once(nginx: Host) -> None:
    nginx.write("nginx/staged/nginx.conf", "second")
    assert [nginx.run("activate-nginx").stdout for _ in range(2)] == ["activated\n", ""]
    assert (nginx.folder / "nginx/live/nginx.conf").read_text() == "second"
    assert reloads(nginx) == 1


def test_configuration_that_nginx_refuses_stays_staged_and_stops_no_rollout(nginx: Host) -> None:
    nginx.write("nginx/staged/nginx.conf", "broken")
    assert nginx.run("activate-nginx").returncode != 0
    nginx.write("nginx/upstreams/worker.conf", "green")
    assert nginx.run("activate-nginx", "--reload").returncode == 0
    assert (nginx.folder / "nginx/live/nginx.conf").read_text() == "first"
    assert reloads(nginx) == 1
    assert nginx.run("activate-nginx").returncode != 0, "it is still said to whoever brought it"


def test_upstream_that_nginx_refuses_reloads_nothing(nginx: Host) -> None:
    nginx.write("nginx/upstreams/worker.conf", "broken")
    assert nginx.run("activate-nginx", "--reload").returncode != 0
    assert reloads(nginx) == 0


def test_upstream_of_a_play_that_was_killed_is_made_up_for(nginx: Host) -> None:
    nginx.run("activate-nginx")
    nginx.write("nginx/upstreams/worker.conf", "green")
    assert reloads(nginx) == 1
    assert [nginx.run("activate-nginx").stdout for _ in range(2)] == ["reloaded\n", ""]
    assert reloads(nginx) == 1


def test_reviver_that_was_not_restarted_is_restarted_by_the_next_run(host: Host) -> None:
    """The run that wrote it may have been interrupted; the next one sees no change."""
    words = {"project_name": "wearon", "scripts_dir": f"{host.folder}/bin"}
    *_, ask, start = yaml.safe_load((ROOT / "roles/compose/tasks/revive.yml").read_text())
    text = (ROOT / "roles/compose/templates/revive-containers.j2").read_text()
    places = {"/run/": f"{host.folder}/run/", "/etc/systemd/system/": f"{host.folder}/"}

    def here(template: str, **more: object) -> str:
        rendered: str = jinja2.Template(template).render(**words, **more)
        for place, ours in places.items():
            rendered = rendered.replace(place, ours)
        return rendered

    def wanted() -> str:
        find = subprocess.run(here(ask["ansible.builtin.command"]).split(), capture_output=True, text=True, check=False)
        answer = {"rc": find.returncode, "stdout": find.stdout}
        return here(start["ansible.builtin.systemd_service"]["state"], **{ask["register"]: answer})

    script = host.write("bin/revive-containers", here(text))
    unit = host.write("wearon-revive.service", "")
    assert wanted() == "restarted", "it does not run"
    (host.folder / "run/wearon-revive").mkdir(parents=True)
    host.run("revive-containers")
    assert wanted() == "started"
    for changed in (script, unit):
        os.utime(changed, ns=(2**62, 2**62))
        assert wanted() == "restarted"
        os.utime(changed, ns=(0, 0))


def test_certificate_of_another_authority_is_replaced_at_once(host: Host) -> None:
    for path in ("certbot/config/live/wearon/fullchain.pem", "certbot/installed.pem"):
        host.write(path, "certificate")

    def renewal(server: str) -> str:
        host.write("certbot/config/renewal/wearon.conf", f"[renewalparams]\nserver = {server}\n")
        run = host.run("renew-certificates")
        assert run.returncode == 0, run.stderr
        return host.calls()[0]

    wanted = yaml.safe_load((ROOT / "inventory/local/group_vars/all/main.yml").read_text())["certbot_acme_url"]
    assert "--force-renewal" in renewal(wanted.replace("-staging", ""))
    assert "--keep-until-expiring" in renewal(wanted)


# --- reboots


@pytest.fixture
def due(host: Host) -> Host:
    """An update waits for a reboot; the worker's container is called blue."""
    for name in ("reboot-host", "probe"):
        source = (
            host.folder / "bin/reboot-host" if name == "reboot-host" else host.folder / "prometheus/probes.d/reboot"
        )
        host.write(f"bin/{name}", source.read_text().replace("/run/", f"{host.folder}/run/"))
    host.write("run/reboot-required", "")
    host.program("systemctl", f'echo "systemctl $*" >>{host.folder}/calls')
    host.program("sleep", "")
    host.engine('case "$*" in "ps --quiet"*) echo blue ;; esac')
    return host


def test_reboot_drains_the_worker_first_and_starts_it_afterwards(due: Host) -> None:
    assert due.run("reboot-host").returncode == 0
    assert due.calls()[2:] == ["stop blue", "systemctl reboot"]
    run = due.run("reboot-host", "--after")
    assert (run.returncode, run.stdout) == (0, "Every service is healthy after the reboot\n")
    assert due.calls()[0] == "start blue"
    assert due.run("reboot-host", "--after").stdout == "", "the next start is an ordinary one"


def test_reboot_holds_its_lock_while_the_worker_drains(due: Host) -> None:
    held = f"flock -n {due.folder}/reboot.lock true || echo held; flock -n {due.folder} true && echo free"
    due.engine(f'case "$*" in "ps --quiet"*) echo blue ;; stop*) {held} ;; esac')
    due.program("sleep", f"flock -n {due.folder}/reboot.lock true || echo held")  # until the shutdown
    assert due.run("reboot-host").stdout.split() == ["held", "free", "held"]
    assert subprocess.run(["flock", "--nonblock", due.folder / "reboot.lock", "true"], check=False).returncode == 0


@pytest.mark.parametrize("waits_for", ["update", "playbook", "rollout"])
def test_reboot_waits_for_an_update_and_for_playbooks(due: Host, waits_for: str) -> None:
    if waits_for == "update":
        (due.folder / "run/reboot-required").unlink()
    elif waits_for == "playbook":
        due.write("rollout.lock", "{}")
    else:
        due.engine(
            'case "$*" in "ps --quiet"*) echo "one two" ;; *wearon.colour*) printf "blue\\ngreen\\nblue\\n" ;; esac'
        )
    run = due.run("reboot-host")
    assert run.returncode == 0
    assert not [call for call in due.calls() if not call.startswith("ps ")]
    assert ("a rollout goes on" in run.stderr) is (waits_for != "update")


def test_worker_that_cannot_be_stopped_goes_on(due: Host) -> None:
    due.engine('case "$*" in "ps --quiet"*) echo blue ;; stop*) exit 1 ;; esac')
    run = due.run("reboot-host")
    assert run.returncode == 1
    assert "no reboot" in run.stderr
    assert due.calls()[2:] == ["stop blue", "start blue"]
    assert due.run("reboot-host", "--after").stdout == ""


def test_service_that_is_not_healthy_after_the_reboot_is_named(due: Host) -> None:
    due.run("reboot-host")
    due.engine('case "$*" in "ps --format"*) echo wearon-loki-1 ;; esac')
    run = due.run("reboot-host", "--after")
    assert (run.returncode, run.stderr) == (1, "Not healthy after the reboot: wearon-loki-1\n")


def test_reboot_that_is_due_is_counted_from_its_first_day(due: Host) -> None:
    def since() -> int:
        return int(due.run("probe").stdout.split()[-1])

    first = since()
    assert first > 1_700_000_000
    due.write("run/wearon-reboot-required", "1700000000\n")
    assert since() == 1_700_000_000
    (due.folder / "run/reboot-required").unlink()
    assert since() == 0

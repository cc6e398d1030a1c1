"""Playbooks run up to the point where a host would be needed, or on this machine with their roles taken out."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ROLES, ROOT, SECRETS

Play = Callable[..., subprocess.CompletedProcess[str]]
#: Nothing listens there: a play that gets that far has passed all checks.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 9}
TWO = {"wearon-1": {"private_address": "10.0.0.1"}, "wearon-2": {"private_address": "10.0.0.2"}}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Run a playbook with the settings of the example inventory, on other hosts."""

    def run(
        playbook: str, hosts: dict[str, Any], *arguments: str, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "inventory"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT / "inventory/production", folder)
        (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", str(folder), *arguments]
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "inventory/production/.vault_password.example"),
        }
        return subprocess.run(
            [*command, "-e", json.dumps({**SECRETS, **variables})],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def groups(server: dict[str, Any], workers: dict[str, Any]) -> dict[str, Any]:
    """An inventory of hosts that do not answer."""
    return {
        name: {"hosts": {host: {**NOWHERE, **variables} for host, variables in hosts.items()}}
        for name, hosts in (("server", server), ("workers", workers))
        if hosts
    }


def said(run: subprocess.CompletedProcess[str]) -> str:
    """Everything, in one line: Ansible folds long sentences."""
    return " ".join((run.stdout + run.stderr).split())


# --- what is refused before anything changes


def test_input_that_is_right_passes(play: Play) -> None:
    run = play("playbooks/site.yml", groups({"wearon-1": TWO["wearon-1"]}, TWO), preflight_roles=["base"])
    assert "unreachable=1 failed=0" in said(run)
    gaps = "grafana_heartbeat_url (no call when the server itself is gone); backup_age_recipient (no backups are made)"
    assert f"Not set: {gaps}" in said(run)


@pytest.mark.parametrize("address", ["fd00::2", "not an address", "10.0.0.256"])
def test_private_address_is_one_of_ipv4(play: Play, address: str) -> None:
    """Compose says `too many colons`, and the URL of Redis is none, long after other things have changed."""
    hosts = groups({"wearon-1": TWO["wearon-1"]}, {**TWO, "wearon-2": {"private_address": address}})
    run = play("playbooks/site.yml", hosts, preflight_roles=["base"])
    assert run.returncode == 2
    assert f"private_address of wearon-2 is {address}; it must be the host's IPv4 address" in said(run)
    assert "unreachable=1" not in said(run), "the other host was provisioned all the same"


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#: Role, its settings, and a part of the sentence that refuses them; with an empty sentence they are right.
INPUTS: list[tuple[str, dict[str, Any], str]] = [
    *((role, {}, "") for role in ROLES if role not in {"database", "fire_drill", "preflight"}),
    (
        "worker",
        {"redis_enabled": False, "worker_redis_url": "rediss://a:b@far.example:6380/0", "worker_redis_ca": PEM},
        "",
    ),
    (
        "worker",
        {"worker_supabase_url": "supabase.co"},
        "worker_supabase_url is wrong; it must be an address that begins with https://",
    ),
    (
        "worker",
        {"worker_redis_url": "redis://default:s3cret@203.0.113.10:6379/0"},
        "worker_redis_url must look like rediss://",
    ),
    ("worker", {"worker_redis_url": "redis://default:s3cret@redis:6379/0"}, "with the password of Redis"),
    ("worker", {"worker_redis_ca": "redis-ca.pem"}, "worker_redis_ca must look like -----BEGIN CERTIFICATE-----"),
    ("worker", {"redis_enabled": False}, "while redis_enabled is false, because no Redis named `redis` runs then"),
    ("worker", {"worker_openai_api_key": "{{ vault_absent }}"}, "'vault_absent' is undefined"),
    ("worker", {"worker_supabase_service_role_key": "sb_publishable_" + "k" * 20}, "not a publishable key"),
    ("worker", {"worker_concurrency": "many"}, "worker_concurrency is text; it must be a whole number"),
    ("worker", {"worker_concurrency": 2000}, "WORKER_CONCURRENCY is invalid: Input should be less than or equal to"),
    ("worker", {"worker_settings": {"openai_image_modle": "x"}}, "no setting of the worker: openai_image_model is one"),
    ("worker", {"worker_settings": {"budgets": {"store": 5}}}, "BUDGETS is invalid"),
    ("worker", {"worker_replicas": 9}, "worker_replicas must look like a number from 1 to 8"),
    ("worker", {"worker_memory_limit": "lots"}, "worker_memory_limit is lots; it must be an amount with its unit"),
    ("redis", {"redis_password": "short"}, "redis_password must be at least 24"),
    ("redis", {"redis_maxclients": 100}, "redis_maxclients is 100"),
    ("base", {"base_ssh_public_keys": []}, "base_ssh_public_keys must hold at least one line"),
    (
        "docker",
        {"docker_registry_logins": {"ghcr.io": "s3cret"}},
        "docker_registry_logins of ghcr.io must each be `<user>:<token>`",
    ),
    (
        "nginx",
        {"nginx_server_names": ["https://x"]},
        'nginx_server_names is ["https://x"]; it must be a list of full host names',
    ),
    ("nginx", {"nginx_server_names": None}, "nginx_server_names is empty; it must be a list"),
    ("nginx", {"nginx_trusted_proxies": "cloudflare"}, "nginx_trusted_proxies is text; it must be a list"),
    ("nginx", {"nginx_trusted_proxies": ["10.0.0.0/24", "0.0.0.0/0"]}, "no wider than /8"),
    ("nginx", {"nginx_trusted_proxy": []}, "nginx_trusted_proxy is no setting; nginx_trusted_proxies is"),
    (
        "certbot",
        {"certbot_domains": []},
        'certbot_domains is []; it must be one or more of nginx_server_names, ["api.example.com"]',
    ),
    ("certbot", {"certbot_email": ""}, "certbot_email is empty"),
    ("grafana", {"grafana_admin_password": "s3cret"}, "grafana_admin_password must have at least 16 characters"),
    ("grafana", {"grafana_smtp_from": ""}, "grafana_smtp_host needs grafana_smtp_from, the sender's e-mail address"),
    ("grafana", {"grafana_email_to": "ops@example.com"}, "grafana_email_to is text; it must be a list"),
    ("grafana", {"grafana_smtp_user": "wearon"}, "grafana_smtp_user needs grafana_smtp_password"),
    ("grafana", {"grafana_whatsapp_phones": []}, "no recipient of alerts"),
    ("grafana", {"grafana_whatsapp_groups": ["family"]}, "grafana_whatsapp_groups must be ids like"),
    ("grafana", {"whatsapp_transport": "cloud_api"}, "whatsapp_transport cloud_api needs grafana_whatsapp_token"),
    (
        "grafana",
        {"whatsapp_transport": "cloud_api", "grafana_whatsapp_token": "EAAG" * 8},
        "whatsapp_transport cloud_api needs grafana_whatsapp_number_id",
    ),
    ("whatsapp_bridge", {"whatsapp_bridge_secret": ""}, "whatsapp_bridge_secret must be at least 24"),
    ("loki", {"loki_retention_hours": 1}, "loki_retention_hours is 1"),
]


@pytest.mark.timeout(300)  # each role once, and each input
def test_wrong_input_is_one_sentence_and_right_input_none(play: Play, tmp_path: Path) -> None:
    """Each input is a host of one run: a run each would take minutes."""
    (tmp_path / "group_vars").symlink_to(ROOT / "playbooks/group_vars")
    (tmp_path / "action_plugins").symlink_to(ROOT / "tests/action_plugins")  # their `copy` starts no process
    answer: dict[str, Any] = {"copy": {"dest": "{{ inventory_hostname }}", "content": "{{ said }}"}}
    answer |= {"vars": {"said": "{{ ansible_failed_result.msg | default('') }}", "project_dir": str(tmp_path)}}
    check = {"ansible.builtin.include_role": {"name": "preflight", "tasks_from": "role"}}
    tasks = [{"block": [check], "rescue": [answer]}]
    places = {"is_server": True, "is_worker": True, "server_host": "input0", "ansible_connection": "local"}
    places |= {"ansible_python_interpreter": sys.executable, "worker_hosts": ["input0"]}
    body = {"hosts": "all", "gather_facts": False, "vars": places, "tasks": tasks}
    (tmp_path / "inputs.yml").write_text(yaml.safe_dump([body]))
    hosts = {f"input{number}": {"preflight_role": role, **given} for number, (role, given, _) in enumerate(INPUTS)}

    run = play(str(tmp_path / "inputs.yml"), {"inputs": {"hosts": hosts}}, "--forks", "2")

    assert run.returncode == 0, said(run)
    answers = [" ".join(path.read_text().split()) if (path := tmp_path / host).exists() else "" for host in hosts]
    for (role, given, sentence), told in zip(INPUTS, answers, strict=True):
        wanted = f"{role}: " if sentence else ""
        assert (told.startswith(wanted), sentence in told, bool(told)) == (True, True, bool(sentence)), (
            given,
            told,
        )
        assert ("Nothing was changed" in told) is bool(sentence)
        assert "s3cret" not in told


def test_wrong_input_ends_the_play_before_any_host_is_asked(play: Play) -> None:
    hosts = groups({"wearon-1": {}}, {"wearon-1": {}})
    run = play("playbooks/site.yml", hosts, preflight_roles=["loki"], loki_retention_hours=1)
    assert run.returncode == 2
    assert "loki_retention_hours is 1" in said(run)
    assert "unreachable=1" not in said(run)


@pytest.mark.parametrize("there", ["server", "workers"])
def test_group_that_is_missing_is_named(play: Play, there: str) -> None:
    hosts = groups(*({"wearon-1": {}} if name == there else {} for name in ("server", "workers")))
    run = play("playbooks/site.yml", hosts)
    assert run.returncode == 2
    assert "needs exactly one host in group `server`, at least one in group `workers`" in said(run)


@pytest.mark.parametrize(
    ("release", "sentence"),
    [({}, "Name the release"), ({"worker_tag": "v1 2"}, "v1.4.0 or v1.4.0@sha256")],
)
def test_update_without_a_proper_release_is_refused(play: Play, release: dict[str, str], sentence: str) -> None:
    run = play("playbooks/update_worker.yml", groups({"wearon-1": {}}, {"wearon-1": {}}), **release)
    assert run.returncode == 2
    assert sentence in said(run)
    assert "unreachable=1" not in said(run)


@pytest.mark.parametrize("playbook", ["update_worker", "rollback_worker", "releases", "maintenance"])
def test_inventory_without_workers_is_a_failure(play: Play, playbook: str) -> None:
    """Ansible itself says `no hosts matched`, and that all is well."""
    run = play(f"playbooks/{playbook}.yml", groups({"wearon-1": {}}, {}), worker_tag="v1", mode="on")
    assert run.returncode == 2
    assert "There is no host in group `workers` of" in said(run)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "No host is named; -e host=... takes one of wearon-1, wearon-2"),
        ({"host": "wearon-3"}, "wearon-3 is no worker host; -e host=... takes one of wearon-1, wearon-2"),
        ({"host": "all"}, "all is no worker host"),
    ],
)
def test_removal_of_an_unknown_host_is_refused(play: Play, asked: dict[str, str], sentence: str) -> None:
    run = play("playbooks/remove_worker.yml", groups({"wearon-1": TWO["wearon-1"]}, TWO), **asked)
    assert run.returncode == 2
    assert sentence in said(run)
    assert "unreachable=1" not in said(run)


@pytest.mark.parametrize(("force", "refused"), [({}, True), ({"force": True}, False)])
def test_last_worker_leaves_only_by_force(play: Play, force: dict[str, bool], refused: bool) -> None:
    hosts = groups({"wearon-1": {}}, {"wearon-1": {}})
    run = play("playbooks/remove_worker.yml", hosts, host="wearon-1", preflight_roles=["base"], **force)
    assert ("wearon-1 is the last worker host" in said(run)) is refused
    assert ("unreachable=1" in said(run)) is not refused, "with force the server is asked"


# --- what brings a host to its end


@pytest.mark.timeout(600)  # several playbooks
def test_host_is_new_until_site_has_ended(play: Play, tmp_path: Path) -> None:
    """A first provisioning that failed after the stack was up has left neither a release nor a certificate."""
    (tmp_path / "group_vars").symlink_to(ROOT / "playbooks/group_vars")
    (tmp_path / "wearon").mkdir()
    shutil.copy(ROOT / "playbooks/provision_new.yml", tmp_path)
    plays = yaml.safe_load((ROOT / "playbooks/finish_site.yml").read_text())
    (mark,) = [one for one in plays if "Mark the end" in one["name"]]
    certificate = {"ansible.builtin.fail": {"msg": "there is no certificate"}, "when": "broken"}
    before = {"hosts": "all", "gather_facts": False, "tags": "certbot", "tasks": [certificate]}
    (tmp_path / "site.yml").write_text(yaml.safe_dump([before, mark]))
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {name: {"hosts": {"here": here}} for name in ("server", "workers")}

    def run(*arguments: str, playbook: str = "provision_new", broken: bool = False) -> str:
        variables = {"worker_tag": "v1", "project_dir": str(tmp_path / "wearon"), "broken": broken}
        return said(play(str(tmp_path / f"{playbook}.yml"), hosts, *arguments, **variables))

    assert "there is no certificate" in run(broken=True)
    run("--tags", "certbot", playbook="site")
    assert "changed=1" in run("--check")
    assert "changed=1 unreachable=0 failed=0" in run(), "neither a failure, a part nor a check is an end"
    assert "Leave the mark" not in run(broken=True), "it was provisioned"
    assert "changed=0 unreachable=0 failed=0" in run(playbook="site")


# --- one at a time


#: These change nothing on a host, or are a part of another playbook; an archive has a lock of its own.
UNLOCKED = {"backup", "database", "pair_whatsapp", "releases", "status"}


def test_every_playbook_that_changes_a_host_takes_the_deploy_lock_and_releases_it() -> None:
    """The lock comes before the first change, and the release last."""
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        if "art of" in path.read_text().splitlines()[0] or path.stem in {*UNLOCKED, "provision_new"}:
            continue
        imported = re.findall(r"(?:import_playbook|import_role|tasks): (\S+)", path.read_text())
        first = next(one for one in imported if one != "any_workers.yml")
        assert first in {"lock.yml", "check_input.yml"}, path
        assert imported[-1] in {"unlock.yml", "finish_site.yml"}, path


@pytest.fixture
def deploy(play: Play, tmp_path: Path) -> Callable[..., str]:
    """Run a playbook that takes the deploy lock on this machine and then fails or not."""
    for name in ("group_vars", "callback_plugins", "lock.yml", "unlock.yml"):
        (tmp_path / name).symlink_to(ROOT / "playbooks" / name)
    lock, unlock = ({"ansible.builtin.import_playbook": f"{name}.yml"} for name in ("lock", "unlock"))
    lock["vars"] = {"__deployment": "site", "__bare": True}  # type: ignore[assignment]
    fail = {"name": "Break", "ansible.builtin.fail": {"msg": "s3cret"}, "when": "broken"}
    body = {"hosts": "all", "gather_facts": False, "tasks": [fail]}
    (tmp_path / "site.yml").write_text(yaml.safe_dump([lock, body, unlock]))
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts = {name: {"hosts": {"here": here}} for name in ("server", "workers")}

    def run(*arguments: str, broken: bool = False) -> str:
        places = {"project_dir": str(tmp_path / "wearon"), "__worker_programs": str(tmp_path / "programs")}
        variables = {**places, "broken": broken}
        return said(play(str(tmp_path / "site.yml"), hosts, *arguments, **variables))

    return run


@pytest.mark.timeout(600)  # several playbooks
def test_deployment_is_logged_and_releases_its_lock_however_it_ends(
    deploy: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed playbook runs no further play: without the callback the next one would find the lock."""
    monkeypatch.setenv("GITHUB_ACTOR", "alice")
    lock, log = tmp_path / "wearon/rollout.lock", tmp_path / "wearon/log/deployments.log"
    assert "s3cret" in deploy(broken=True)
    assert not lock.exists()
    held = {"when": "2026-01-01T00:00:00Z", "who": "bob", "play": "1 Mon", "machine": "other", "host": "x"}
    lock.write_text(json.dumps(held))
    assert "failed=0" in deploy("--check"), "a check needs no lock"
    assert "by bob on x" in deploy()
    assert lock.exists()
    assert "failed=0" in deploy("-e", "break_lock=true", "--tags", "nginx")
    assert not lock.exists()
    ended = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(one["result"], one["who"], one["level"]) for one in ended] == [
        ("failed: Break (here)", "alice", "error"),
        ("failed: the play was killed", "bob", "error"),
        ("ok", "alice", "info"),
    ]
    assert all((one["why"], one["event"]) == ("site", "deployment_ended") for one in ended[::2])
    assert all(re.match(r"[0-9a-f]{12}", one["commit"]) and one["seconds"] < 100 for one in ended[::2])


@pytest.mark.parametrize(
    ("dead", "sentence"),
    [
        (True, "gone does not answer: nothing was stopped there"),
        (False, "The worker of gone has drained and is removed"),
    ],
)
def test_host_is_taken_out_dead_or_alive(play: Play, tmp_path: Path, dead: bool, sentence: str) -> None:
    """This machine is all hosts, the roles of the stack are taken out, and the engine only tells what is in Redis."""
    for name in ("group_vars", "callback_plugins", "lock.yml", "unlock.yml", "any_workers.yml", "finish_removal.yml"):
        (tmp_path / name).symlink_to(ROOT / "playbooks" / name)
    shutil.copy(ROOT / "playbooks/remove_worker.yml", tmp_path)
    lock = {"ansible.builtin.import_playbook": "lock.yml", "vars": {"__bare": True}}
    (tmp_path / "check_input.yml").write_text(yaml.safe_dump([lock]))
    told = {"name": "Tell", "ansible.builtin.debug": {"msg": "they are {{ all_hosts }}"}}
    told_here = {"hosts": "{{ playing_hosts }}", "gather_facts": False, "tasks": [told]}
    (tmp_path / "apply_stack.yml").write_text(yaml.safe_dump([told_here]))
    instances = [{"name": "worker-blue-here-0123abcd", "alive": True, "claimed": 1}]
    told_by_worker = f"echo '{json.dumps({'instances': instances})}'"
    engine = f"[ $1 != inspect ] || {{ echo '[]'; echo no such >&2; exit 1; }}; {told_by_worker}"
    programs = {"docker": engine, "systemctl": "exit 0", "wearon/bin/activate-nginx": "echo reloaded"}
    for name, body in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    record = tmp_path / "wearon/nginx/upstreams/worker/gone.conf"
    record.parent.mkdir(parents=True)
    record.write_text("server 10.0.0.9:8001 max_fails=2 fail_timeout=5s; # blue\n")
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    workers = {
        "here": {"private_address": "10.0.0.1"},
        "gone": {**(NOWHERE if dead else here), "private_address": "10.0.0.9"},
    }
    hosts = {"server": {"hosts": {"here": {**here, "private_address": "10.0.0.1"}}}, "workers": {"hosts": workers}}

    places = {"project_dir": str(tmp_path / "wearon"), "__worker_programs": str(tmp_path / "programs")}
    run = play(str(tmp_path / "remove_worker.yml"), hosts, host="gone", **places)

    assert run.returncode == 0, said(run)
    assert record.read_text() == "server 10.0.0.9:8001 down; # blue\n"
    assert "they are ['here']" in said(run)
    assert sentence in said(run)
    assert "Redis has nothing of gone any more" in said(run)
    assert not (tmp_path / "wearon/rollout.lock").exists()


def test_new_password_of_redis_reaches_every_role_that_has_it() -> None:
    """The tags of docs/deploy.md reach every role with the password: Redis refuses the old one at the end."""
    tags = set(re.search(r"`--tags (\S+)` is enough", (ROOT / "docs/deploy.md").read_text())[1].split(","))  # type: ignore[index]
    asks = re.compile(r"\b(worker_redis_url|redis_url|redis_password)\b")
    files = [path for role in ROLES for path in (ROOT / "roles" / role).glob("[tv]*/**/*") if path.is_file()]
    holders = {
        path.relative_to(ROOT / "roles").parts[0]
        for path in files
        if path.name != "preflight.yml" and asks.search(path.read_text())
    }
    assert {"redis", "worker"} < holders
    stack = yaml.safe_load((ROOT / "playbooks/group_vars/all/layout.yml").read_text())["stack"]
    for line in stack:
        assert line["role"] not in holders or tags & {line["role"], *line.get("tags", [])}


def lay_out_check(folder: Path, role: str, tasks: str) -> dict[str, Any]:
    """Write a play of some tasks of a role, and return the inventory of this machine as its server and worker."""
    (folder / "group_vars").symlink_to(ROOT / "playbooks/group_vars")
    check = {"name": "Check", "ansible.builtin.import_role": {"name": role, "tasks_from": tasks}}
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [check]}]))
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return {group: {"hosts": {"here": here}} for group in ("server", "workers")}


@pytest.mark.parametrize(("replicas", "limit", "code"), [(2, "900g", 2), (2, "1m", 0), (1, "900g", 0)])
def test_workers_that_do_not_fit_into_the_memory_are_refused(
    play: Play, tmp_path: Path, replicas: int, limit: str, code: int
) -> None:
    hosts = lay_out_check(tmp_path, "worker", "surroundings")
    run = play(str(tmp_path / "play.yml"), hosts, worker_replicas=replicas, worker_memory_limit=limit)
    assert run.returncode == code, said(run)
    refusal = "during a rollout 4 workers of 900g need 3686400 MB, and the host has"
    assert (refusal in said(run)) == (code == 2)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({}, ""),
        ({"stack_size": "small", "worker_replicas": 2}, ""),
        (
            {"worker_memory_limit": "900g"},
            "together. Set stack_size: small (for 2 GB, without Loki and Alloy), lower a",
        ),
        (
            {"stack_size": "small", "redis_memory_limit": "900g"},
            "MB together. Lower a *_memory_limit, or take a bigger",
        ),
        ({"redis_enabled": False, "redis_memory_limit": "900g"}, ""),
    ],
)
def test_host_with_too_little_memory_is_refused_before_anything_changes(
    play: Play, tmp_path: Path, given: dict[str, Any], refusal: str
) -> None:
    hosts = lay_out_check(tmp_path, "preflight", "memory")
    run = play(str(tmp_path / "play.yml"), hosts, roles_dir=str(ROOT / "roles"), **given)
    assert (run.returncode == 2) == bool(refusal), said(run)
    assert not refusal or re.search(r"here has \d+ MB of memory; the limits of its services are 9\d{5} MB", said(run))
    assert refusal in said(run)


# --- secrets and command lines, which every user of a machine can read


@pytest.mark.parametrize(
    ("way", "url", "shown", "password"),
    [
        (
            "DATABASE_URL",
            "postgresql://me:s3cr%40t+1@db/x?sslmode=require",
            "postgresql://me@db/x?sslmode=require",
            "s3cr@t+1",
        ),
        ("database_url", "postgresql://me@db/x", "postgresql://me@db/x", ""),
    ],
)
def test_password_of_the_database_is_on_no_command_line(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, url: str, shown: str, password: str
) -> None:
    (tmp_path / "psql").write_text('#!/bin/sh\nprintf "%s\\n" "$PGPASSWORD" "$@" >"$(dirname "$0")/asked"\n')
    (tmp_path / "psql").chmod(0o755)
    monkeypatch.setenv("DATABASE_URL", url if way == "DATABASE_URL" else "")
    run = play("playbooks/database.yml", {}, **({"database_url": url} if way == "database_url" else {}))
    assert run.returncode == 0, said(run)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert (asked[0], asked[-1]) == (password, shown)
    assert str(ROOT / "worker/generation/sql/functions.sql") in asked

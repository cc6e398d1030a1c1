"""The anatomy that every role keeps."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ROLES, ROOT
from worker.settings import Settings

LAYOUT = yaml.safe_load((ROOT / "playbooks/group_vars/all/layout.yml").read_text())


def load(role: str, path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text())


@pytest.mark.parametrize("role", ROLES)
def test_specs_equal_defaults(role: str) -> None:
    """Every default is described with the same value; what has no default is required."""
    options = load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items() if "default" in option} == load(
        role, "defaults/main.yml"
    )
    for name, option in options.items():
        assert option.get("required", False) != ("default" in option), name
        assert option["description"].strip(), name
        assert "{{" not in option["description"], f"{name}: the description would be templated"
        assert name.startswith(f"{role}_") or name == "whatsapp_transport", name  # more roles than one follow it


@pytest.mark.parametrize("role", ROLES)
def test_role_says_why_it_is(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text()
    assert readme.startswith(f"# {role}\n")
    assert len(readme.splitlines()) <= 30


@pytest.mark.parametrize("role", ROLES)
def test_tasks_are_named_and_use_full_module_names(role: str) -> None:
    for path in (ROOT / "roles" / role).glob("*/*.yml"):
        if path.parent.name not in {"tasks", "handlers"}:
            continue
        for task in yaml.safe_load(path.read_text()):
            assert re.match(r"[A-Z][^.]*$", task["name"]), (path, task["name"])


def test_no_result_takes_the_name_of_a_roles_variable() -> None:
    """A registered result would stand where the variable is used afterwards."""
    files = [path for name in ("vars", "defaults") for path in (ROOT / "roles").glob(f"*/{name}/**/*.yml")]
    named = {name for path in files for name in yaml.safe_load(path.read_text()) or {}}
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    registered = {name for text in texts for name in re.findall(r"^ *register: (\w+)$", text, re.M)}
    assert len(registered) > 10
    assert not registered & named


def test_every_role_is_of_the_stack_or_of_a_playbook() -> None:
    """A role outside the stack and the playbooks would never be applied."""
    stack = [line["role"] for line in LAYOUT["stack"]]
    assert len(stack) == len(set(stack))
    playbooks = "".join(path.read_text() for path in (ROOT / "playbooks").glob("*.yml"))
    called = set(re.findall(r"(?:role|name): (\w+)$", playbooks, re.M))
    assert set(ROLES) == {*stack, "preflight", *(called & set(ROLES))}
    assert all(line["hosts"] in {"all", "server", "workers"} for line in LAYOUT["stack"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "roles").glob("*/templates/firewall.yml.j2")), ids=lambda it: it.parts[-3]
)
def test_firewall_asks_for_no_variable_of_a_role(path: Any) -> None:
    """The role `base` renders it in a play that has no other role."""
    asked = {*re.findall(r"\b(_*[a-z]+_\w+)(?!\w|\s*\|\s*default)", re.sub(r"'.*?'|{#.*?#}", "", path.read_text()))}
    assert asked <= {*LAYOUT, "to_json"}


def test_groups_of_alerts_have_one_owner() -> None:
    files = sorted((ROOT / "roles").glob("*/files/alerts/*.yml"))
    assert len({path.stem for path in files}) == len(files)
    for path in files:
        assert [*yaml.safe_load(path.read_text())] == [f"__grafana_alerts_{path.stem}"], path


def test_playbooks_are_verbs() -> None:
    """The steps stand in roles, and site.yml is the table of contents."""
    for path in (ROOT / "playbooks").glob("*.yml"):
        assert len(path.read_text().splitlines()) <= 25, path


def test_worker_variables_are_settings() -> None:
    """A setting is one word in three cases."""
    variables = load("worker", "vars/main.yml")
    names = list(variables["__worker_needed_secrets"])
    names += re.findall(r"'(\w+)':", variables["__worker_secret_settings"] + variables["__worker_environment"])
    # The address of Redis names the certificates' file.
    assert set(names) <= set(Settings.model_fields)
    required = {name for name, field in Settings.model_fields.items() if field.is_required()}
    assert required <= set(names)


def test_worker_drains_as_long_as_its_settings_say() -> None:
    assert (
        load("worker", "defaults/main.yml")["worker_drain_timeout_seconds"]
        >= Settings.model_fields["drain_timeout_seconds"].default
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "inventory/production/group_vars/all").glob("vault_*.yml")), ids=lambda path: path.name
)
def test_production_secrets_are_encrypted(path: Any) -> None:
    assert path.read_text().startswith("$ANSIBLE_VAULT;1.1;AES256")


def test_identity_of_the_backups_is_not_committed() -> None:
    """Git ignores its documented name, and the hook finds its contents under another one."""
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "backup-identity.txt"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (pattern,) = [hook["entry"] for hook in hooks if hook["id"] == "private-key"]
    assert re.search(pattern, "AGE-SECRET-KEY-" + "1QQQQ")
    assert re.search(pattern, "-----BEGIN OPENSSH " + "PRIVATE KEY-----")


def test_engine_is_upgraded_only_when_asked() -> None:
    """Unattended upgrades leave the engine alone."""
    (upgrade,) = [
        task
        for task in load("docker", "tasks/main.yml")
        if task.get("ansible.builtin.apt", {}).get("state") == "latest"
    ]
    assert upgrade["when"].startswith("docker_upgrade | bool")
    assert load("docker", "defaults/main.yml")["docker_upgrade"] is False


def test_images_are_pinned() -> None:
    """Production has real, fixed values in the place of the tests' stand-ins."""
    tags = {
        name: value
        for role in ROLES
        for name, value in load(role, "defaults/main.yml").items()
        if name.endswith("_tag") and name != "worker_tag"
    }
    assert len(tags) >= 11
    for name, tag in tags.items():
        assert re.search(r"\d+\.\d+\.\d+", tag), name
    assert load("certbot", "defaults/main.yml")["certbot_acme_url"] == "https://acme-v02.api.letsencrypt.org/directory"
    assert load("docker", "defaults/main.yml")["docker_apt_url"].startswith("https://download.docker.com/linux/")


@pytest.mark.parametrize(
    "role",
    [role for role in ROLES if re.search(r"_tag: .*\d", (ROOT / "roles" / role / "defaults/main.yml").read_text())],
)
def test_renovate_sees_every_image(role: str) -> None:
    """Twice each, in defaults and specs, or its pull request would make them differ."""
    managers = json.loads((ROOT / ".github/renovate.json").read_text())["customManagers"]
    for name in ("defaults/main.yml", "meta/argument_specs.yml"):
        text = (ROOT / "roles" / role / name).read_text()
        found = set()
        for manager in managers:
            if any(re.search(pattern.strip("/"), f"roles/{role}/{name}") for pattern in manager["managerFilePatterns"]):
                for pattern in manager["matchStrings"]:
                    found |= {match["currentValue"] for match in re.finditer(pattern.replace("(?<", "(?P<"), text)}
        tags = {str(tag) for key, tag in load(role, "defaults/main.yml").items() if key.endswith("_tag")}
        releases = {tag.split("@")[0] for tag in tags if "." in tag}  # a commit or `latest` has no successor
        assert releases <= found

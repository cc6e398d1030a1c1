"""Values that have the right type and cannot work, by the name of their setting: the filters of roles/preflight."""

from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.roles.conftest import ROLES, ROOT, program


@pytest.fixture(scope="module")
def shape() -> ModuleType:
    return program("preflight", "shape", "filter_plugins")


def options(role: str) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
    found: dict[str, dict[str, Any]] = specs["argument_specs"]["main"]["options"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_a_value_that_can_work(shape: ModuleType, role: str) -> None:
    """A default in a template is Ansible's to fill in; `{{` tells it from a value."""
    defaults = {
        name: one["default"] for name, one in options(role).items() if "{{" not in str(one.get("default", "{{"))
    }
    assert shape.wrong_values(options(role), defaults) == []


@pytest.mark.parametrize(
    ("role", "name", "value", "sentence"),
    [
        ("base", "base_ssh_port", 0, "it must be 1 or more"),
        ("base", "base_ssh_port", 70000, "base_ssh_port is 70000; it must be a port from 1 to 65535"),
        ("base", "base_public_ports", [443, 99999], "base_public_ports is 99999; it must be a port"),
        ("base", "base_swap_megabytes", -1, "base_swap_megabytes is -1; it must be 0 or more"),
        ("backup", "backup_keep", 0, "backup_keep is 0; it must be 1 or more"),
        ("certbot", "certbot_email", "a@b.com, c@d.com", "it must be an e-mail address like ops@example.com"),
        ("certbot", "certbot_email", None, "certbot_email has no value: write one, or remove the line"),
        ("certbot", "certbot_acme_url", "letsencrypt", "it must be an address that begins with https://"),
        ("grafana", "grafana_email_to", ["a@b.com", "ops"], "grafana_email_to is ops; it must be an e-mail address"),
        ("redis", "redis_memory_limit", "1 gigabyte", "it must be an amount with its unit, like 512m"),
        ("redis", "redis_password", "s3cret\n", "redis_password begins or ends with a blank or a line break"),
        ("worker", "worker_tag", 1.1, "worker_tag is the number 1.1, and YAML shortens numbers"),
        ("worker", "worker_tag", "v1 2", "it must be the tag of an image"),
        ("grafana", "grafana_email_to", "ops@example.com", "grafana_email_to is text; it must be a list"),
        ("base", "base_public_ports", 8080, "base_public_ports is 8080; it must be a list"),
        ("worker", "worker_settings", "lane_weights=5", "worker_settings is text; it must be a mapping"),
        ("backup", "backup_keep_fetched", 0, "backup_keep_fetched is 0; it must be 1 or more"),
        ("redis", "redis_enabled", "no", "redis_enabled is text; it must be true or false, without quotation marks"),
        ("worker", "worker_estimate_rate", "5", "it must be a number of requests by second or minute"),
    ],
)
def test_value_that_cannot_work_is_one_sentence(
    shape: ModuleType, role: str, name: str, value: object, sentence: str
) -> None:
    (found,) = shape.wrong_values(options(role), {name: value})
    assert found.startswith(name)
    assert sentence in found
    assert "s3cret" not in found


@pytest.mark.parametrize(("role", "name"), [("docker", "docker_upgrade"), ("worker", "worker_replicas")])
def test_value_of_the_command_line_is_text_and_passes(shape: ModuleType, role: str, name: str) -> None:
    value = "true" if options(role)[name]["type"] == "bool" else "2"
    assert shape.wrong_values(options(role), {name: value}) == []


def test_secret_address_is_not_repeated(shape: ModuleType) -> None:
    (found,) = shape.wrong_values(options("grafana"), {"grafana_webhook_url": "hooks.example.com/s3cret"})
    assert "s3cret" not in found


def test_certificate_may_end_with_a_line_break(shape: ModuleType) -> None:
    assert shape.wrong_values(options("worker"), {"worker_redis_ca": "-----BEGIN\nMII\n-----END\n"}) == []


def test_slip_in_a_name_is_told_and_a_name_of_the_operators_own_is_not(shape: ModuleType) -> None:
    names = ["nginx_trusted_proxy", "nginx_behind_the_company", "worker_tag"]
    assert shape.unknown_settings(options("nginx"), names, "nginx") == [
        "nginx_trusted_proxy is no setting; nginx_trusted_proxies is (roles/nginx/meta/argument_specs.yml)"
    ]


@pytest.mark.parametrize("role", ROLES)
def test_no_name_of_the_layout_is_taken_for_a_slip(shape: ModuleType, role: str) -> None:
    layout = yaml.safe_load((ROOT / "playbooks/group_vars/all/layout.yml").read_text())
    assert shape.unknown_settings(options(role), list(layout), role) == []


def test_type_is_told_without_classes_of_ansible(shape: ModuleType) -> None:
    said = "argument 'x_y' is of type NoneType and we were unable to convert to list: <class 'NoneType'> cannot be"
    assert shape.plain_types([said, "Task failed: other"]) == ["x_y is empty; it must be a list", "other"]

"""The host itself."""

from testinfra.host import Host


def test_passwords_do_not_log_in(server: Host) -> None:
    settings = server.check_output("sshd -T")
    for line in ("passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin without-password"):
        assert line in settings


def test_deploy_user_logs_in_by_key_and_becomes_root(server: Host) -> None:
    assert server.user("deploy").shell == "/bin/bash"
    assert server.file("/home/deploy/.ssh/authorized_keys").mode == 0o600
    assert server.check_output("runuser -u deploy -- sudo -n id -u") == "0"


def test_engine_came_from_dockers_repository_and_limits_logs(server: Host) -> None:
    assert server.package("docker-ce").is_installed
    assert '"live-restore": true' in server.file("/etc/docker/daemon.json").content_string


def test_timers_wait(server: Host) -> None:
    timers = server.check_output("systemctl list-timers --all --no-legend")
    for timer in (
        "wearon-certificates.timer", "wearon-backup.timer", "docker-prune.timer", "wearon-host-metrics.timer",
        "wearon-list-logs.timer",
    ):  # fmt: skip
        assert timer in timers


def test_units_are_sound(server: Host) -> None:
    names = ["wearon-certificates", "wearon-backup", "wearon-revive", "wearon-firewall", "docker-prune"]
    names += ["wearon-host-metrics", "wearon-list-logs"]
    units = " ".join(f"{name}.service" for name in names)
    assert server.check_output(f"systemd-analyze verify {units} 2>&1 | grep -i wearon || true") == ""


def test_upgrades_are_automatic(server: Host) -> None:
    assert 'Unattended-Upgrade "1"' in server.check_output("apt-config dump APT::Periodic::Unattended-Upgrade")

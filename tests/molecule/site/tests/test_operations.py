"""Running the playbooks again, in check mode, one role alone, with a broken setting; a backup and its way back."""

import json
from collections.abc import Callable
from pathlib import Path

from testinfra.host import Host

from tests.molecule.hosts import STATE, Played

Play = Callable[..., Played]
REDIS = (
    "docker exec wearon-redis-1 sh -c 'REDISCLI_AUTH=$(cut -d\" \" -f2 /run/secrets/redis.password.conf) redis-cli {}'"
)


def test_check_mode_changes_nothing(play: Play) -> None:
    run = play("site", "--check", "--diff")
    assert (run.code, run.changed) == (0, 0), run.text


def test_broken_configuration_never_gets_to_nginx(play: Play, curl: Callable[[str], str], server: Host) -> None:
    run = play("site", "--tags", "nginx", "-e", json.dumps({"nginx_hsts": 'max-age=1" often "'}))
    assert run.code != 0
    assert "invalid number of arguments" in " ".join(run.text.split())
    assert server.run("grep -r often /opt/wearon/nginx/live").stdout == ""
    assert '"status":' in curl("https://api.example.test/health")
    assert play("site", "--tags", "nginx").code == 0


def test_broken_redis_configuration_is_refused(play: Play, server: Host) -> None:
    run = play("site", "--tags", "redis", "-e", '{"redis_maxclients": 99999999999}')
    assert run.code != 0
    assert "99999999999" not in server.file("/opt/wearon/redis/conf/redis.conf").content_string


def test_backup_brings_everything_back(play: Play, server: Host, tmp_path: Path) -> None:
    server.check_output(REDIS.format("lpush wearon:test kept"))
    certificate = server.check_output("sha256sum < /opt/wearon/nginx/tls/fullchain.pem")
    accounts, session = "/opt/wearon/grafana/data/grafana.db", "/opt/wearon/whatsapp_bridge/data/sqlite3.db"
    script = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); print(*d.execute(sys.argv[2])); d.commit()"
    sql = f"python3 -c '{script}'"
    server.check_output(f"{sql} {accounts} \"insert into user values ('kept', 'x')\"")
    pairing = server.check_output(f"{sql} {session} 'select * from whatsmeow_device'")
    run = play("backup", "-e", f"to={tmp_path}")
    assert run.code == 0, run.text
    (archive,) = tmp_path.glob("*.tar.age")
    assert b"kept" not in archive.read_bytes()

    server.check_output(REDIS.format("del wearon:test"))
    server.check_output("rm -rf /opt/wearon/certbot/config /opt/wearon/nginx/tls/fullchain.pem")
    server.check_output(f"{sql} {accounts} \"delete from user where login = 'kept'\"")
    server.check_output(f"rm {session}")
    run = play("restore", "-e", f"archive={archive}", "-e", f"identity={STATE / 'backup-identity.txt'}")
    assert run.code == 0, run.text
    assert server.check_output(REDIS.format("lrange wearon:test 0 -1")) == "kept"
    assert server.check_output("sha256sum < /opt/wearon/nginx/tls/fullchain.pem") == certificate
    assert "kept" in server.check_output(f"{sql} {accounts} 'select login from user'")
    assert server.check_output(f"{sql} {session} 'select * from whatsmeow_device'") == pairing


def test_restore_without_files_says_how(play: Play) -> None:
    run = play("restore")
    assert run.code != 0
    assert "-e archive=" in run.text

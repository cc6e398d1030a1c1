"""The HTTP contract of grafana-whatsapp-webhook, held by the running program."""

import json
import socket
from contextlib import suppress

import pytest

from tests.bridge.conftest import ALERT, SECRET, Bridge


def recorded(bridge: Bridge) -> list[dict[str, str]]:
    return [json.loads(line) for line in (bridge.data / "recorded.jsonl").read_text().splitlines()]


def test_users_and_groups_get_the_message(linked: Bridge) -> None:
    for path in ("user/491701234567", "user/+491701234567", "group/120363012345678901"):
        answer = linked.post(f"{ALERT}/{path}", json={"message": "Redis is down 🔴\nline", "alerts": [], "state": "x"})
        assert answer.status_code == 200, answer.text
    sent = [(line["to"], line["server"], line["message"]) for line in recorded(linked)[-3:]]
    text = "Redis is down 🔴\nline"
    user = ("491701234567", "s.whatsapp.net", text)
    assert sent == [user, user, ("120363012345678901", "g.us", text)]


@pytest.mark.parametrize(
    ("secret", "content", "status"),
    [
        (SECRET, b'{"message": ""}', 400),
        (SECRET, b'{"message": 5}', 400),
        (SECRET, b"{}", 400),
        (SECRET, b"[]", 400),
        (SECRET, b"\xff{", 400),
        (SECRET, b"[" * 500_000, 400),
        ("", b'{"message": "a"}', 401),
        (SECRET[:-1], b'{"message": "a"}', 401),
        ("ä", b'{"message": "a"}', 401),
        (SECRET, b'{"message": "' + b"a" * (1 << 20) + b'"}', 413),
        (SECRET, b'{"message": "' + b"a" * ((1 << 20) - 20) + b'"}', 200),
    ],
)
def test_what_is_no_message_is_refused(linked: Bridge, secret: str, content: bytes, status: int) -> None:
    headers = {"Authorization": f"Bearer {secret}".encode()}
    with socket.create_connection(("127.0.0.1", linked.port), timeout=30) as connection:
        lines = [f"POST {ALERT}/user/4917012345 HTTP/1.1".encode(), b"Host: bridge", b"Connection: close"]
        lines += [b"Authorization: " + headers["Authorization"], b"Content-Length: %d" % len(content)]
        with suppress(ConnectionError):  # refused before all of it was sent
            connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + content)
        assert connection.recv(100).split()[1] == str(status).encode()


def test_other_paths_are_not_found(linked: Bridge) -> None:
    for path in ("/", f"{ALERT}/user/", f"{ALERT}/user/../../etc", f"{ALERT}/channel/491701234567"):
        assert linked.post(path, json={"message": "a"}).status_code == 404, path
    assert linked.get("/whatsapp").status_code == 404


def test_a_message_that_whatsapp_refuses_is_an_error_and_counted(linked: Bridge) -> None:
    before = linked.metric('wearon_whatsapp_messages_total{outcome="failed"}')
    answer = linked.alert(to="user/00001234567")
    assert answer.status_code == 502
    assert "no LID" in answer.text
    assert linked.metric('wearon_whatsapp_messages_total{outcome="failed"}') == before + 1


def test_log_names_no_phone_and_no_text(linked: Bridge) -> None:
    linked.alert("a text that is private", to="user/491709999999")
    linked.alert("a text that is private", to="user/00009999999")
    log = linked.log.read_text()
    assert "message_sent" in log
    assert "message_failed" in log
    assert "9999999" not in log
    assert "private" not in log
    assert all(json.loads(line)["event"] for line in log.splitlines())


def test_secret_that_cannot_be_read_is_told(linked: Bridge) -> None:
    changed = {"WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": "/proc/self/mem"}
    linked.environment, kept = {**linked.environment, **changed}, linked.environment
    done = linked.command("run")
    linked.environment = kept
    assert done.returncode == 1
    assert done.stderr == "/proc/self/mem cannot be read (OSError): let the bridge's user read it, as text.\n"


def test_empty_secret_does_not_start(linked: Bridge) -> None:
    linked.environment, kept = (
        {**linked.environment, "WEBHOOK_SECRET": "", "WEBHOOK_SECRET_FILE": "/nowhere"},
        linked.environment,
    )
    done = linked.command("run")
    linked.environment = kept
    assert done.returncode == 1
    assert done.stderr.startswith("The secret is empty: put it into /nowhere or WEBHOOK_SECRET")
    assert "Traceback" not in done.stderr

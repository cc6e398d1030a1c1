"""The link to WhatsApp, from the first second to its end."""

import json
import time
from pathlib import Path

from tests.bridge.conftest import Bridge


def test_bridge_answers_from_its_first_second_with_the_reason(bridge: Bridge) -> None:
    bridge.wait_for("unlinked")
    answer = bridge.get("/healthy")
    assert answer.status_code == 503
    assert "pair_whatsapp.yml" in answer.text
    assert bridge.alert().status_code == 503
    assert bridge.command("alive").returncode == 0, "the container is healthy: a deploy does not wait for a phone"


def test_qr_is_shown_until_the_phone_scans_it(bridge: Bridge) -> None:
    bridge.wait_for("unlinked")
    picture = bridge.data.parent / "out/qr.png"
    assert bridge.command("pair").returncode == 0
    bridge.wait(lambda: bool(bridge.get("/pair").json()["lines"]))
    shown = json.loads(bridge.command("pair", "--show").stdout)
    assert shown["state"] == "pairing"
    assert all(set(line) <= set(" █▀▄") and len(line) >= 20 for line in shown["lines"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_mode & 0o77 == 0
    bridge.wait(lambda: bridge.get("/pair").json()["number"] >= 2)
    (bridge.data / "scanned").touch()
    bridge.wait_for("linked")
    assert bridge.get("/healthy").status_code == 200
    assert not picture.exists(), "a code is a way into the account"
    assert bridge.command("pair").returncode == 1, "a second link needs the first one removed"
    assert (bridge.data / "sqlite3.db").stat().st_mode & 0o77 == 0


def test_code_is_shown_and_a_refusal_says_why(bridge: Bridge) -> None:
    bridge.wait_for("unlinked")
    assert bridge.command("pair", "12").returncode == 1
    bridge.fate("refuse-code")
    assert bridge.command("pair", "+491701234567").returncode == 0
    bridge.wait(lambda: bool(bridge.get("/pair").json()["refusal"]))
    assert bridge.get("/pair").json()["refusal"].startswith("WhatsApp has had too many attempts")
    bridge.fate("")
    assert bridge.command("pair", "+491701234567").returncode == 0
    bridge.wait(lambda: bridge.get("/pair").json()["code"] == "ABCD-1234")
    assert bridge.get("/pair").json()["lines"] == []
    (bridge.data / "scanned").touch()
    bridge.wait_for("linked")


def test_codes_that_run_out_are_told_and_a_new_attempt_works(bridge: Bridge) -> None:
    bridge.wait_for("unlinked")
    assert bridge.post("/pair").status_code == 200
    bridge.wait(lambda: bridge.get("/pair").json()["refusal"] == "No phone was linked within 3 minutes.")
    assert bridge.state() == "unlinked"
    assert bridge.post("/pair").status_code == 200
    bridge.wait(lambda: bool(bridge.get("/pair").json()["lines"]))
    (bridge.data / "scanned").touch()
    bridge.wait_for("linked")


def test_pairing_is_closed_to_who_has_no_secret(bridge: Bridge) -> None:
    bridge.wait_for("unlinked")
    assert bridge.post("/pair", secret="wrong").status_code == 401
    assert bridge.state() == "unlinked"


def test_an_outdated_bridge_and_a_removed_link_are_told(bridge: Bridge) -> None:
    bridge.link()
    bridge.fate("logged-out")
    bridge.wait_for("logged_out")
    assert bridge.get("/healthy").status_code == 503
    assert "removed on the phone" in bridge.alert().text
    assert bridge.metric('wearon_whatsapp_state{state="logged_out"}') == 1
    bridge.fate("outdated")
    assert bridge.post("/pair").status_code == 200
    bridge.wait_for("outdated")
    assert "newer image" in bridge.get("/healthy").text
    assert bridge.metric('wearon_whatsapp_state{state="outdated"}') == 1
    assert bridge.metric('wearon_whatsapp_state{state="linked"}') == 0


def test_receipts_are_counted_and_their_absence_has_an_age(bridge: Bridge) -> None:
    bridge.link()
    bridge.alert()
    bridge.wait(lambda: bridge.metric('wearon_whatsapp_messages_total{outcome="delivered"}') == 1)
    assert bridge.metric("wearon_whatsapp_undelivered_seconds") == 0
    assert abs(bridge.metric("wearon_whatsapp_last_delivered_timestamp_seconds") - time.time()) < 60
    bridge.fate("no-receipt")
    bridge.alert()
    bridge.wait(lambda: bridge.metric("wearon_whatsapp_undelivered_seconds") >= 1)
    assert bridge.metric('wearon_whatsapp_messages_total{outcome="sent"}') == 2
    assert bridge.metric('wearon_whatsapp_messages_total{outcome="delivered"}') == 1


def test_link_and_last_delivery_outlive_a_restart_and_sigterm_ends_in_order(bridge: Bridge) -> None:
    bridge.link()
    bridge.alert()
    bridge.wait(lambda: bridge.metric('wearon_whatsapp_messages_total{outcome="delivered"}') == 1)
    assert bridge.stop() == 0
    assert "bridge_stopped" in bridge.log.read_text()
    bridge.start()
    bridge.wait_for("linked")
    assert bridge.metric("wearon_whatsapp_last_delivered_timestamp_seconds") > 0


def test_lost_network_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    first = Bridge(tmp_path)
    first.link()
    assert first.stop() == 0
    first.fate("no-network")
    first.start()
    try:
        first.wait_for("disconnected")
        assert "no such host" in first.get("/healthy").text
    finally:
        assert first.stop() == 0


def test_real_library_starts_refuses_and_stays_small(tmp_path: Path) -> None:
    """The library makes its session and dials (no answer comes in a test), and the process ends when told to."""
    bridge = Bridge(tmp_path, standin=False)
    try:
        bridge.wait_for("unlinked")
        assert (bridge.data / "sqlite3.db").stat().st_mode & 0o77 == 0
        assert bridge.post("/pair").status_code == 200
        bridge.wait(lambda: bridge.state() != "pairing" or bool(bridge.get("/pair").json()["lines"]), 60)
        assert bridge.own_memory() < 56 * 2**20
    finally:
        assert bridge.stop() == 0

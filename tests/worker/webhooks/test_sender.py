"""One callback and the partners that answer it: what is signed, what counts as taken, what is never connected to."""

import time

import pytest
from pydantic import SecretStr
from standardwebhooks import WebhookVerificationError

from tests.sandbox.partner import Partner
from worker.webhooks import sender as module
from worker.webhooks.sender import Event, Sender

SECRET, OTHER = "whsec_" + "QQ" * 16, "whsec_" + "Qk" * 16
EVENT = Event("3f8f7d66-0000-4000-8000-000000000001", "generation_completed", "2026-11-27T10:00:00+00:00", {"a": "é"})


async def send(sender: Sender, url: str, *secrets: str) -> module.Answer:
    return await sender.send(url, [SecretStr(secret) for secret in secrets or (SECRET,)], EVENT)


async def test_the_partner_verifies_what_came(partner: Partner, sender: Sender) -> None:
    answer = await send(sender, partner.url("/good?shop=1"))
    assert (answer.result, answer.status) == ("delivered", 204)
    (received,) = partner.received
    assert received.headers["webhook-id"] == EVENT.id
    assert received.headers["content-type"] == "application/json"
    assert received.verified(SECRET) == {"type": EVENT.type, "timestamp": EVENT.timestamp, "data": EVENT.data}
    with pytest.raises(WebhookVerificationError):
        received.verified(OTHER)


async def test_during_a_rotation_either_secret_verifies(partner: Partner, sender: Sender) -> None:
    await send(sender, partner.url("/good"), OTHER, SECRET)
    (received,) = partner.received
    assert received.verified(SECRET) == received.verified(OTHER)


@pytest.mark.parametrize(
    ("path", "result", "status"),
    [
        ("/status/500", "rejected", 500),
        ("/status/410", "gone", 410),
        ("/redirect", "rejected", 302),
        ("/hangup", "unreachable", None),
        ("/garbage", "unreachable", None),
        ("/lying", "delivered", 200),
        ("/flood", "delivered", 200),
        ("/bomb", "delivered", 200),
    ],
)
async def test_the_status_alone_decides(
    partner: Partner, sender: Sender, path: str, result: str, status: int | None
) -> None:
    began_at = time.monotonic()
    answer = await send(sender, partner.url(path))
    assert (answer.result, answer.status) == (result, status)
    assert len(partner.received) == 1, "a redirect was followed, or a request repeated"
    assert time.monotonic() - began_at < 10
    assert "/" not in (answer.error or "")


async def test_a_dead_partner_costs_the_limit_and_no_more(
    partner: Partner, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)
    assert await send(sender, partner.url("/dead")) == module.Answer(
        "timeout", error="localhost did not answer within 0.5 s"
    )


async def test_a_status_that_came_in_time_counts_whatever_becomes_of_the_body(
    partner: Partner, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)  # less than the body is waited for
    assert (await send(sender, partner.url("/lying"))).result == "delivered"


@pytest.mark.parametrize(
    "url",
    [
        "http://partner.example/hook",
        "https://user:password@partner.example/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://0x7f.1/",
        "ftp://partner.example/",
        "nonsense",
    ],
)
async def test_a_url_that_is_not_public_https_is_never_connected_to(sender: Sender, url: str) -> None:
    answer = await send(sender, url)
    assert answer.result == "refused"
    assert "password" not in str(answer.error)


async def test_a_name_that_leads_to_a_private_address_is_never_connected_to(partner: Partner) -> None:
    sender = Sender(connections=1)  # without the trusted origin
    assert (await send(sender, partner.url("/good"))).result == "refused"
    assert partner.received == []
    await sender.aclose()


async def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    sender = Sender(trusted_origins=frozenset({partner.origin}), connections=1)
    assert (await send(sender, partner.url("/good"))).result == "unreachable"
    await sender.aclose()


@pytest.mark.parametrize("secrets", [[], ["whsec_"], ["whsec_!"]], ids=["none", "empty", "no base64"])
async def test_nothing_is_sent_unsigned(partner: Partner, sender: Sender, secrets: list[str]) -> None:
    answer = await sender.send(partner.url("/good"), [SecretStr(secret) for secret in secrets], EVENT)
    assert answer.result == "refused"
    assert partner.received == []

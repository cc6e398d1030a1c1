"""`wearon-worker webhook` on a real database and a partner with TLS."""

import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from tests.sandbox import Sandbox
from tests.sandbox.partner import Partner
from tests.worker.webhooks.world import complete, deliveries
from worker.cli.webhook import command


@pytest.fixture(scope="module")
def partner() -> Iterator[Partner]:
    with Partner() as partner:
        yield partner


@pytest.fixture
def webhook(sandbox: Sandbox, partner: Partner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    partner.received.clear()
    for name, value in {**sandbox.env(), **partner.environment()}.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments, **more: CliRunner().invoke(command, arguments, **more)


@pytest.fixture
def store(sandbox: Sandbox) -> str:
    return sandbox.producer.store()


def added(webhook: Callable[..., Result], store: str, url: str) -> tuple[str, str]:
    """The endpoint's id and secret."""
    output = webhook("add", "--store", store, "--url", url).output
    found = re.search(r"endpoint +(\S+)\nsecret +(whsec_\S{44})\n", output)
    assert found, output
    return found[1], found[2]


def test_a_secret_is_shown_once_and_signs_the_test(
    webhook: Callable[..., Result], store: str, partner: Partner
) -> None:
    endpoint, secret = added(webhook, store, partner.url("/good"))
    assert webhook("test", endpoint).output == "delivered: the endpoint answered 204\n"
    (received,) = partner.received
    assert received.verified(secret)["type"] == "webhook_test"
    listed = webhook("list", "--store", store).output
    assert endpoint in listed
    assert secret not in listed


def test_both_secrets_count_during_a_rotation(webhook: Callable[..., Result], store: str, partner: Partner) -> None:
    endpoint, before = added(webhook, store, partner.url("/good"))
    assert webhook("rotate", endpoint, input="n\n").exit_code == 1
    after = re.search(r"whsec_\S+", webhook("rotate", endpoint, "--yes").output)
    assert after
    webhook("test", endpoint)
    (received,) = partner.received
    assert received.verified(before) == received.verified(after[0])
    webhook("rotate", endpoint, "--keep-hours", "0", "--yes")
    webhook("test", endpoint)
    assert partner.received[1].headers["webhook-signature"].count("v1,") == 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
def test_a_lost_answer_costs_no_secret(
    webhook: Callable[..., Result], sandbox: Sandbox, store: str, partner: Partner, kind: str
) -> None:
    sandbox.gateway.fault(kind, on="rpc/wearon_webhook_add", times=1)
    endpoint, before = added(webhook, store, partner.url("/good"))
    sandbox.gateway.fault(kind, on="rpc/wearon_webhook_rotate", times=1)
    after = re.search(r"whsec_\S+", webhook("rotate", endpoint, "--yes").output)
    assert after
    webhook("test", endpoint)
    (received,) = partner.received
    assert received.verified(before) == received.verified(after[0])


def test_a_disabled_endpoint_is_enabled_and_its_callbacks_replayed(
    webhook: Callable[..., Result], sandbox: Sandbox, store: str
) -> None:
    endpoint, _ = added(webhook, store, "https://partner.example/hook?token=t")
    complete(sandbox, store)
    assert "1 callbacks given up" in webhook("disable", endpoint, input="y\n").output
    assert "disabled (operator)" in webhook("list").output
    assert "given up" in webhook("deliveries", "--failed").output
    assert webhook("replay", "--endpoint", endpoint, "--yes").output.startswith("0 deliveries queued")
    webhook("enable", endpoint)
    assert webhook("replay", "--endpoint", endpoint, "--yes").output.startswith("1 deliveries queued")
    (row,) = deliveries(sandbox, endpoint)
    assert (row["attempts"], row["given_up_at"]) == (0, None)
    assert "token" not in webhook("list").output


def test_a_delivery_is_replayed_by_its_id(webhook: Callable[..., Result], sandbox: Sandbox, store: str) -> None:
    endpoint, _ = added(webhook, store, "https://partner.example/")
    complete(sandbox, store)
    sandbox.database.execute("update store_webhook_deliveries set due_at = null, delivered_at = now()")
    (row,) = deliveries(sandbox, endpoint)
    assert webhook("replay", str(row["id"])).output.startswith("1 deliveries queued")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("add", "--url", "http://partner.example/"), "URL is not https."),
        (("add", "--url", "https://a:b@partner.example/"), "URL contains credentials."),
        (("add", "--url", f"https://partner.example/{'a' * 2048}"), "URL has 2072 characters; the limit is 2048."),
        (("test", str(uuid4())), "no such endpoint; `wearon-worker webhook list`"),
        (("rotate", str(uuid4()), "--yes"), "no such endpoint"),
        (("disable", str(uuid4()), "--yes"), "no such endpoint"),
        (("replay",), "give either delivery ids or --endpoint"),
        (("replay", "9" * 20), f"{'9' * 20} is not in the range 1<=x<={2**63 - 1}"),
        (("add", "--store", "none", "--url", "https://x/"), "'none' is not a valid UUID"),
    ],
)
def test_a_mistake_is_said(
    webhook: Callable[..., Result], store: str, arguments: tuple[str, ...], problem: str
) -> None:
    more = ("--store", store) if arguments[0] == "add" and "--store" not in arguments else ()
    result = webhook(*arguments, *more)
    assert result.exit_code != 0
    assert problem in result.output + str(result.exception)


def test_the_case_of_the_scheme_does_not_matter(webhook: Callable[..., Result], store: str) -> None:
    added(webhook, store, "HTTPS://partner.example/")
    assert "https://partner.example/" in webhook("list", "--store", store).output


def test_an_unknown_store_and_a_second_endpoint_of_one_url_are_refused(
    webhook: Callable[..., Result], store: str
) -> None:
    added(webhook, store, "https://partner.example/")
    again = webhook("add", "--store", store, "--url", "https://partner.example/")
    assert "has an endpoint with this URL" in str(again.exception)
    assert "no such store" in str(webhook("add", "--store", str(uuid4()), "--url", "https://x/").exception)


def test_a_test_that_is_not_taken_fails(webhook: Callable[..., Result], store: str, partner: Partner) -> None:
    endpoint, _ = added(webhook, store, partner.url("/status/500"))
    result = webhook("test", endpoint)
    assert result.exit_code == 1
    assert "did not take the test event: localhost answered 500" in str(result.exception)


def test_thousands_of_callbacks_are_given_up_and_replayed_in_batches(
    sandbox: Sandbox, webhook: Callable[..., Result], store: str, partner: Partner
) -> None:
    """Supabase ends a statement after 8 s."""
    endpoint, _ = added(webhook, store, partner.url("/good"))
    complete(sandbox, store)
    sandbox.database.execute(
        "insert into store_webhook_deliveries (event_id, endpoint_id, store_id, session_id, type, data) "
        "select gen_random_uuid(), endpoint_id, store_id, gen_random_uuid(), type, data "
        "from store_webhook_deliveries, generate_series(1, 12000)"
    )
    assert "12001 callbacks given up" in webhook("disable", endpoint, "--yes").output
    webhook("enable", endpoint)
    assert "12001 deliveries queued" in webhook("replay", "--endpoint", endpoint, "--yes").output
    # As an answer 410 does; what is left goes with the trimming.
    gone = sandbox.database.value("select wearon_webhook_switch($1, false, 'gone')", endpoint)
    trimmed = [sandbox.database.value("select wearon_webhook_trim()")["given_up"] for _ in range(3)]
    assert (gone["given_up"], trimmed) == (5000, [5000, 2001, 0])

"""The database's side: which pictures an open session needs, and which rows lose their addresses."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.sandbox import Sandbox
from tests.sandbox.sandbox import BUCKET
from worker.generation.channel import Channel
from worker.generation.data_life import rows
from worker.generation.data_life.tools import Tools

SIGNED = f"https://x.supabase.co/storage/v1/object/sign/{BUCKET}/"
NAMES = [
    "uploads/u/a.jpg",
    "uploads/u/a b (1).jpg",
    "uploads/ü/100%.jpg",
    "uploads/u/a%20b.jpg",
    "uploads/u/it's+&=.jpg",
    "uploads/u/who?.jpg",
    "uploads/u/no#1 long name.jpg",
]
BEFORE = timedelta(hours=6)
COLUMNS = {
    "b2c": ("model_image_url", "outfit_image_url", "stitched_image_url", "generated_image_url", "accessories"),
    "b2b": ("model_image_url", "outfit_image_url", "generated_image_url"),
}
TABLES = {"b2c": "generation_sessions", "b2b": "store_generation_sessions"}


def in_use(sandbox: Sandbox, *names: str) -> set[str]:
    answer = sandbox.database.value("select wearon_data_life_in_use($1, $2)", BUCKET, list(names))
    return set(answer["in_use"])


def expire(sandbox: Sandbox, channel: str, **more: Any) -> dict[str, Any]:
    before = more.pop("before", datetime.now(UTC) - BEFORE)
    words = "".join(f", {name} => ${number}" for number, name in enumerate(more, start=3))
    answer: dict[str, Any] = sandbox.database.value(
        f"select wearon_data_life_expire($1, $2{words})", channel, before, *more.values()
    )
    return answer


def session(sandbox: Sandbox, channel: str = "b2c", *, status: str = "completed", hours: float = 7, **row: Any) -> str:
    """A session with an address in every column."""
    urls = [f"{SIGNED}{name}?token=t" for name in ("uploads/u/1.jpg", "uploads/u/2.jpg", "uploads/u/3.jpg")]
    queued = getattr(sandbox.producer, channel)(images=urls[: 3 if channel == "b2c" else 2], push=False)
    row = {"status": status, "created_at": datetime.now(UTC) - timedelta(hours=hours), **row}
    row.setdefault("generated_image_url", f"{SIGNED}generated/u/s.jpg?token=t" if status == "completed" else None)
    sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(row, start=2))
    sandbox.database.execute(f"update {TABLES[channel]} set {sets} where id = $1", queued.session_id, *row.values())
    return str(queued.session_id)


def addresses(sandbox: Sandbox, channel: str, session_id: str) -> list[Any]:
    row = sandbox.session(channel, session_id)
    return [row[name] for name in COLUMNS[channel]]


@pytest.mark.parametrize("column", ["model_image_url", "outfit_image_url", "generated_image_url"])
@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_an_open_sessions_pictures_are_known_by_any_kind_of_address(
    sandbox: Sandbox, channel: str, column: str
) -> None:
    kinds: list[Callable[[str], str]] = [
        lambda name: f"{SIGNED}{quote(name)}?token=a/b",
        lambda name: f"{SIGNED}{name}?token=t",
        lambda name: f"https://x/storage/v1/render/image/sign/{BUCKET}/{quote(name)}?width=10",
        lambda name: f"https://cdn.example/{quote(name, safe='')}".replace("%2F", "/"),
        lambda name: name,
    ]
    for name in NAMES:
        for kind in kinds:
            address: dict[str, Any] = {column: kind(name)}
            opened = session(sandbox, channel, status="processing", **address)
            # Written without an encoding, "a%20b" is either name.
            assert in_use(sandbox, *NAMES) - {"uploads/u/1.jpg"} >= {name}, kind(name)
            sandbox.database.execute(f"update {TABLES[channel]} set status = 'failed' where id = $1", opened)
    assert in_use(sandbox, *NAMES) == set()


@pytest.mark.parametrize("wrap", [lambda url: [url], lambda url: [{"type": "hat", "image": {"url": url}}]])
def test_accessories_of_an_open_session_are_in_use_in_any_form(sandbox: Sandbox, wrap: Any) -> None:
    sandbox.database.execute(
        "update generation_sessions set accessories = $2 where id = $1",
        session(sandbox, status="pending"),
        wrap(f"{SIGNED}{quote(NAMES[1])}?token=t"),
    )
    assert in_use(sandbox, *NAMES) == {NAMES[1]}


def test_a_users_deeply_nested_accessories_do_not_stop_the_purge(sandbox: Sandbox) -> None:
    opened = session(sandbox, status="queued")
    nested = f"{'[' * 5000}{json.dumps(NAMES[0])}{']' * 5000}"
    write = f"update generation_sessions set accessories = '{nested}', status = '{{}}' where id = '{opened}'"
    # As near to the limit as a client can come: the row could just be written.
    tight = "begin; set local max_stack_depth = '200kB'; {}; commit"
    sandbox.database.execute(write.format("queued"))
    known = f"wearon_data_life_in_use('{BUCKET}', array['{NAMES[0]}']) -> 'in_use' ? '{NAMES[0]}'"
    sandbox.database.execute(tight.format(f"do $$ begin assert {known}; end $$"))
    sandbox.database.execute(write.format("failed"))
    sandbox.database.execute(tight.format("select wearon_data_life_expire('b2c', now())"))
    assert sandbox.database.value("select accessories from generation_sessions where id = $1", opened) == []


def test_the_place_of_an_open_sessions_picture_is_in_use_before_its_row_says_so(sandbox: Sandbox) -> None:
    app, shop = sandbox.producer.b2c(push=False), sandbox.producer.b2b(push=False)
    places = {
        f"generated/{app.owner_id}/{app.session_id}.jpg",
        f"stores/{shop.owner_id}/generated/{shop.session_id}.jpg",
    }
    assert in_use(sandbox, *places, f"generated/{app.owner_id}/{shop.session_id}.jpg") == places


@pytest.mark.parametrize("channel", ["b2c", "b2b"])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_old_closed_rows_lose_their_addresses_and_keep_the_rest(sandbox: Sandbox, channel: str, status: str) -> None:
    old = session(sandbox, channel, status=status)
    before = sandbox.session(channel, old)
    young = session(sandbox, channel, status=status, hours=5)
    assert expire(sandbox, channel)["expired"] == 1
    after = sandbox.session(channel, old)
    assert {name for name in after if after[name] != before[name]} <= set(COLUMNS[channel])
    nothing = [None] if status == "failed" else ["expired"]
    expected = ["expired", "expired", *([None] if channel == "b2c" else []), *nothing]
    assert addresses(sandbox, channel, old) == [*expected, *([["expired"]] if channel == "b2c" else [])]
    assert "expired" not in addresses(sandbox, channel, young)
    assert expire(sandbox, channel)["expired"] == 0


def test_addresses_within_accessories_go_and_other_words_stay(sandbox: Sandbox) -> None:
    old = session(sandbox)
    hat = {"name": 'the "hat"', "url": f'{SIGNED}a\\b"c.jpg?t', "inner": [{"src": "data:image/jpeg;base64,xx"}], "n": 1}
    sandbox.database.execute(
        "update generation_sessions set accessories = $2 where id = $1", old, [hat, "stores/s/uploads/x"]
    )
    expire(sandbox, "b2c")
    assert sandbox.session("b2c", old)["accessories"] == [
        {"name": 'the "hat"', "url": "expired", "inner": [{"src": "expired"}], "n": 1},
        "expired",
    ]


@pytest.mark.parametrize("channel", ["b2c", "b2b"])
def test_an_open_row_keeps_its_addresses_until_it_has_ended(sandbox: Sandbox, channel: str) -> None:
    opened = session(sandbox, channel, status="processing")
    session(sandbox, channel, hours=6.5)
    assert expire(sandbox, channel)["open"] == 1
    assert "expired" not in addresses(sandbox, channel, opened)
    # The walk has gone on meanwhile, and does not meet the row again.
    sandbox.database.execute("update wearon.data_life set reached = now()")
    sandbox.database.execute(f"update {TABLES[channel]} set status = 'failed' where id = $1", opened)
    assert expire(sandbox, channel) == {"walked": 0, "expired": 1, "open": 0, "after": None, "after_id": None}
    assert sandbox.database.value("select count(*) from wearon.data_life_open") == 0


def test_the_address_of_bulks_picture_lives_from_its_making_on(sandbox: Sandbox) -> None:
    """A row of bulk may have waited for longer than a picture lives."""
    bulk = session(sandbox, "b2b", status="processing", hours=20)
    assert expire(sandbox, "b2b")["open"] == 1
    ended = "update store_generation_sessions set status = 'completed', generated_image_url = 'https://x', completed_at"
    sandbox.database.execute(f"{ended} = now() - interval '1 hour' where id = $1", bulk)
    for full, expired in ((False, 1), (False, 0), (True, 0)):
        assert expire(sandbox, "b2b", p_full=full)["expired"] == expired
        assert addresses(sandbox, "b2b", bulk) == ["expired", "expired", "https://x"]
    sandbox.database.execute(f"{ended} = now() - interval '7 hours' where id = $1", bulk)
    sandbox.database.execute("update wearon.data_life set reached = now()")
    assert expire(sandbox, "b2b")["expired"] == 1
    assert addresses(sandbox, "b2b", bulk) == ["expired"] * 3
    assert sandbox.database.value("select count(*) from wearon.data_life_open") == 0


async def test_one_purge_meets_all_rows_that_were_open_before(
    sandbox: Sandbox, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest of bulk has tens of thousands of them."""
    monkeypatch.setattr(rows, "_BATCH", 2)
    opened = [session(sandbox, "b2b", status="queued", hours=20) for _ in range(7)]
    before = datetime.now(UTC) - BEFORE
    assert (await tools.purge()._rows.expire(Channel.B2B, before)).open == 7
    sandbox.database.execute("update wearon.data_life set reached = now()")
    sandbox.database.execute("update store_generation_sessions set status = 'failed'")
    assert (await tools.purge()._rows.expire(Channel.B2B, before)).rows == 7
    assert all(addresses(sandbox, "b2b", each)[0] == "expired" for each in opened)
    assert sandbox.database.value("select count(*) from wearon.data_life_open") == 0


def test_an_erasure_takes_the_address_of_a_young_picture_too(sandbox: Sandbox) -> None:
    done = session(sandbox, "b2b", hours=0, completed_at=datetime.now(UTC))
    store = sandbox.session("b2b", done)["store_id"]
    expire(sandbox, "b2b", before=datetime.max.replace(tzinfo=UTC), p_owner_id=store)
    assert addresses(sandbox, "b2b", done) == ["expired"] * 3


def test_batches_meet_every_row_though_many_were_made_at_once(sandbox: Sandbox) -> None:
    moment = datetime.now(UTC) - timedelta(hours=8)
    made = [session(sandbox, created_at=moment) for _ in range(7)]
    made.append(session(sandbox, created_at=None))
    after: dict[str, Any] = {}
    walked = 0
    while (answer := expire(sandbox, "b2c", p_limit=3, **after))["walked"]:
        walked += answer["walked"]
        after = {"p_after": datetime.fromisoformat(answer["after"]), "p_after_id": answer["after_id"]}
    assert walked == 7
    assert all(addresses(sandbox, "b2c", each)[0] == "expired" for each in made)


@pytest.mark.parametrize("how", ["p_full", "a day later"])
def test_a_row_with_a_made_up_date_is_met_by_the_walk_over_all_rows(sandbox: Sandbox, how: str) -> None:
    session(sandbox)
    expire(sandbox, "b2c")
    late = session(sandbox, hours=1000)
    assert expire(sandbox, "b2c")["expired"] == 0
    if how == "a day later":
        sandbox.database.execute("update wearon.data_life set full_at = now() - interval '25 hours'")
    expire(sandbox, "b2c", **({"p_full": True} if how == "p_full" else {}))
    assert addresses(sandbox, "b2c", late)[0] == "expired"


@pytest.mark.parametrize("moment", ["infinity", "2200-01-01", "-infinity", "0044-03-15 BC", None])
def test_an_open_row_of_an_impossible_date_ages_from_the_next_purge_on(sandbox: Sandbox, moment: str | None) -> None:
    odd, ahead = session(sandbox, status="queued"), session(sandbox, status="queued", hours=-0.5)
    made = sandbox.session("b2c", ahead)["created_at"]
    value = f"'{moment}'" if moment else "null"
    sandbox.database.execute(f"update generation_sessions set created_at = {value} where id = $1", odd)
    expire(sandbox, "b2c")
    assert datetime.now(UTC) - sandbox.session("b2c", odd)["created_at"] < timedelta(minutes=1)
    assert sandbox.session("b2c", ahead)["created_at"] == made


@pytest.mark.parametrize("moment", ["infinity", "2200-01-01"])
def test_a_closed_row_of_the_far_future_loses_its_addresses_a_life_later(sandbox: Sandbox, moment: str) -> None:
    odd = session(sandbox)
    sandbox.database.execute(f"update generation_sessions set created_at = '{moment}' where id = $1", odd)
    expire(sandbox, "b2c")
    sandbox.database.execute("update generation_sessions set created_at = created_at - interval '7 hours'")
    assert expire(sandbox, "b2c", p_full=True)["expired"] == 1


def test_an_erasure_takes_rows_of_the_far_future(sandbox: Sandbox) -> None:
    done, other = session(sandbox), session(sandbox)
    owner = sandbox.session("b2c", done)["user_id"]
    sandbox.database.execute("update generation_sessions set created_at = 'infinity'")
    expire(sandbox, "b2c", before=datetime.max.replace(tzinfo=UTC), p_owner_id=owner)
    assert [addresses(sandbox, "b2c", each)[0] == "expired" for each in (done, other)] == [True, False]


def test_an_owners_rows_go_whatever_their_age_and_nobody_elses(sandbox: Sandbox) -> None:
    mine, other, opened = (
        session(sandbox, hours=0),
        session(sandbox, hours=0),
        session(sandbox, status="queued", hours=0),
    )
    owner = sandbox.session("b2c", mine)["user_id"]
    sandbox.database.execute("update generation_sessions set user_id = $2 where id = $1", opened, owner)
    answer = expire(sandbox, "b2c", before=datetime.now(UTC), p_owner_id=owner)
    assert (answer["expired"], answer["open"]) == (1, 1)
    assert [addresses(sandbox, "b2c", each)[0] == "expired" for each in (mine, other, opened)] == [True, False, False]
    # The regular walk has not been there.
    assert sandbox.database.value("select count(*) from wearon.data_life") == 0


def test_the_service_role_alone_may_call_the_functions(sandbox: Sandbox) -> None:
    rows = sandbox.database.fetch(
        "select role from pg_proc p, unnest(array['anon', 'authenticated', 'service_role']) role "
        "where proname like 'wearon\\_data\\_life\\_%' and has_function_privilege(role, p.oid, 'EXECUTE') group by role"
    )
    assert [row["role"] for row in rows] == ["service_role"]

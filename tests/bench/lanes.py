"""A Monday morning: one store with thousands of messages, nineteen with ten, and 300 shoppers who come meanwhile.

With fewer messages (--burst) there are fewer of all.

Made three times: in one line, as all payers were before lanes; in lanes; and with the thousands as bulk.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Thread
from uuid import uuid4

from tests.bench import load
from tests.bench.figures import Figure, percentile
from tests.bench.options import Options
from tests.bench.progress import Progress
from tests.bench.world import World, world
from tests.sandbox.producer import QUEUE
from worker.generation import keys

_STORES = 19
#: Shoppers come in this time, and in a quick run.
_SECONDS, _QUICK_SECONDS = 30.0, 3.0
_LATENCY_SECONDS = 1.0
_PATIENCE_SECONDS = 1800.0
_SETTINGS = {"OPENAI_REQUESTS_PER_MINUTE": "1000000", "MESSAGE_TTL_SECONDS": "7200", "MESSAGE_TTL_MAX_SECONDS": "7200"}
_INSERTS = {
    "b2b": "insert into store_generation_sessions (id, store_id, request_id, model_image_url, prompt_system) "
    "select id, $2, id::text, 'https://a.example/', '' from unnest($1::uuid[]) as _(id)",
    "b2c": "insert into generation_sessions (id, user_id, model_image_url, prompt_system) "
    "select id, $2, 'https://a.example/', '' from unnest($1::uuid[]) as _(id)",
}


Message = dict[str, object]


@dataclass
class _Morning:
    """One of the three."""

    seconds: float = 0
    #: Processor time of the worker.
    cpu: float = 0
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: Share of the running generations that the large store had while others waited.
    shares: list[float] = field(default_factory=list)


def run(options: Options, progress: Progress) -> list[Figure]:
    """The figures of the three, and the throughput of the lanes against that of the line."""
    count = options.burst
    figures, cpu = [Figure("messages of the large store", count)], {}
    for kind in ("line", "lanes", "bulk"):
        seen = _morning(kind, count, options, progress)
        ended = sum(map(len, seen.waits.values()))
        cpu[kind] = 1000 * seen.cpu / ended
        figures.append(Figure(f"{kind}: ended", 60 * ended / seen.seconds, "per minute"))
        figures.append(Figure(f"{kind}: worker CPU per generation", cpu[kind], "ms"))
        for payer in ("shoppers", "small stores", "large store"):
            waits = seen.waits[payer]
            figures += [Figure(f"{kind}: {payer} p{int(100 * it)}", percentile(waits, it), "s") for it in (0.5, 0.95)]
        for it in (0.5, 0.95):
            share = 100 * percentile(seen.shares, it)
            figures.append(Figure(f"{kind}: largest share of a lane p{int(100 * it)}", share, "%"))
    figures += [
        Figure(f"{kind}: CPU per generation, against the line", 100 * (cpu[kind] / cpu["line"] - 1), "%", 5)
        for kind in ("lanes", "bulk")
    ]
    return figures


def _morning(kind: str, count: int, options: Options, progress: Progress) -> _Morning:
    seen, stop = _Morning(), Event()
    with world(options.megapixels, WORKER_CONCURRENCY=str(options.concurrency), **_SETTINGS) as around:
        around.sandbox.openai.set(latency=_LATENCY_SECONDS, compose=False)
        progress(f"{kind}: starting the worker")
        around.start_worker()
        payers: dict[str, str] = {}
        large, small, shoppers = _orders(around, kind, count, payers)
        sampler = Thread(target=_sample, args=(around, seen, stop))
        sampler.start()
        begun = time.monotonic()
        pause = (_QUICK_SECONDS if options.quick else _SECONDS) / len(shoppers)
        with around.meter() as meter:
            _push(around, [*large, *small])
            for number, message in enumerate(shoppers):
                time.sleep(max(0.0, begun + number * pause - time.monotonic()))
                _push(around, [message])
            total, left = len(payers), begun + _PATIENCE_SECONDS - time.monotonic()
            load.wait_until_ended(around, total, left, lambda ended: progress(f"{kind}: {ended} of {total} ended"))
        seen.seconds, seen.cpu = time.monotonic() - begun, meter.worker_cpu
        stop.set()
        sampler.join()
        for line in around.worker.logs("generation_started"):
            seen.waits[payers[line["session_id"]]].append(line["queued_seconds"])
    return seen


def _orders(
    around: World, kind: str, count: int, payers: dict[str, str]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Messages with their sessions in the database; in one line all of them are of one store."""
    one = around.sandbox.producer.store(0)
    more: Message = {"priority": "bulk"} if kind == "bulk" else {}
    large = list(_made(around, "b2b", one, count, "large store", payers, more))
    small: list[Message] = []
    few, visitors = min(10, 1 + count // 300), min(300, 1 + count // 4)
    for _ in range(_STORES):
        store = one if kind == "line" else around.sandbox.producer.store(0)
        small += _made(around, "b2b", store, few, "small stores", payers, {})
    line = kind == "line"
    owner = one if line else around.sandbox.producer.user()
    shoppers = list(_made(around, "b2b" if line else "b2c", owner, visitors, "shoppers", payers, {}))
    return large, small, shoppers


def _made(
    around: World, channel: str, owner: str, count: int, payer: str, payers: dict[str, str], more: Message
) -> Iterator[Message]:
    ids = [str(uuid4()) for _ in range(count)]
    around.sandbox.database.execute(_INSERTS[channel], ids, owner)
    for session_id in ids:
        payers[session_id] = payer
        fields = {"task_id": str(uuid4()), "channel": channel, "session_id": session_id, "version": 1}
        owned = {"store_id" if channel == "b2b" else "user_id": owner, "request_id": session_id}
        yield {**fields, **owned, "image_urls": around.photos[:2], "prompt": session_id, **more}


def _push(around: World, messages: list[Message]) -> None:
    moment = datetime.now(UTC).isoformat()
    for start in range(0, len(messages), 100):
        texts = [json.dumps({**message, "created_at": moment}) for message in messages[start : start + 100]]
        around.sandbox.redis.lpush(QUEUE, *texts)


def _sample(around: World, seen: _Morning, stop: Event) -> None:
    redis = around.sandbox.redis
    while not stop.wait(0.2):
        lanes = redis.zrange(keys.LANES, 0, -1)
        running = [redis.hgetall(name) for name in redis.scan_iter(keys.running("*"))]
        counts: list[int] = [int(count) for hash_ in running for count in hash_.values()]
        total = sum(counts)
        if len(lanes) > 1 and total:
            seen.shares.append(max(counts) / total)

"""Checks of Redis: it answers quickly, does what the worker asks of it, is new enough, and keeps what it has."""

import asyncio
import statistics
import time
from contextlib import suppress
from socket import SOCK_STREAM
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import Redis

from worker import clients
from worker.clients.redis_connections import TakesNoWrites
from worker.doctor.broker_trial import refused_commands, refused_events
from worker.doctor.result import Result, fail, ok, warn
from worker.generation import keys
from worker.settings import Settings
from worker.settings.networks import is_public

#: The first version with BLMOVE.
MIN_VERSION = (6, 2)
LATENCY_WARN_SECONDS = 0.05
_PERMIT = "give the user of REDIS_URL the keys ~wearon:* and the commands +@all -@dangerous, or these at least"
_BY_HAND = "look in the service's console: version 6.2 or newer, persistence on, no eviction"


async def redis(settings: Settings) -> list[Result]:
    """Check that Redis is encrypted where required, reachable, quick, no cluster, permitted, new enough and durable."""
    if public := await public_address(settings.redis_url):
        return [fail("redis", f"REDIS_URL leads over the internet to {public}, not encrypted", "use rediss://")]
    client = clients.redis_client(settings)
    try:
        async with client:
            seconds = await latency(client)
            with suppress(exceptions.NoPermissionError):
                # One command: a cluster refuses keys of different slots.
                await client.exists(keys.QUEUE, keys.INSTANCES)
            permissions = await _permissions(client)
            info = await _info(client)
    except (exceptions.RedisError, OSError) as error:
        return [_explain(error)]
    if info.get("cluster_enabled"):
        return [_cluster()]
    return [_version(info, seconds), *permissions, _persistence(info), _eviction(info)]


async def public_address(url: str) -> str:
    """A public address of the host that connections without TLS would go to; empty: there is none."""
    parts = urlsplit(url)
    if parts.scheme != "redis":
        return ""
    with suppress(OSError):
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port or 6379, type=SOCK_STREAM)
        return next((str(address[0]) for *_, address in found if is_public(str(address[0]))), "")
    return ""


def _explain(error: exceptions.RedisError | OSError) -> Result:
    if isinstance(error, exceptions.AuthenticationError):
        return fail("redis", "it does not accept the password", "check the user and password in REDIS_URL")
    if isinstance(error, exceptions.NoPermissionError):
        return fail("redis permissions", f"its user may not do this: {error}", _PERMIT)
    if isinstance(error, exceptions.ClusterCrossSlotError | exceptions.MovedError):
        return _cluster()
    if isinstance(error, TakesNoWrites):
        return fail("redis", str(error), "let REDIS_URL name the primary, and look at its state")
    if isinstance(error, exceptions.OutOfMemoryError):
        return fail("redis", "it is full (maxmemory)", "raise its limit, or wait until the queue is shorter")
    return fail("redis", f"no answer: {error}", "check REDIS_URL and that Redis runs")


def _cluster() -> Result:
    return fail("redis", "it runs in cluster mode", "use a Redis without cluster mode: Celery needs one")


async def latency(client: Redis) -> float:
    """Median time of a command in seconds."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        await client.ping()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one connects


async def _permissions(client: Redis) -> list[Result]:
    """Try every command that the worker sends, on keys of its own that are gone afterwards."""
    if refused := await refused_commands(client):
        return [fail("redis permissions", f"its user may not run: {', '.join(refused)}", _PERMIT)]
    if await refused_events(client):
        what = "its user may not publish or hear Celery's events: celery-exporter sees no task"
        remedy = "give the user of REDIS_URL the keys and channels of celery-exporter in docs/deploy.md"
        return [warn("redis permissions", what, remedy)]
    return [ok("redis permissions", "all commands of the worker")]


async def _info(client: Redis) -> dict[str, Any]:
    """The facts that Redis tells about itself: managed services leave out sections, or refuse INFO."""
    try:
        info: dict[str, Any] = await client.info()
    except exceptions.ResponseError:
        return {}
    return info


def _version(info: dict[str, Any], latency: float) -> Result:
    version = str(info.get("redis_version", ""))
    what = f"version {version or 'unknown'}, {latency * 1000:.1f} ms"
    try:
        number = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        return warn("redis", f"{what}: INFO does not say", _BY_HAND)
    if number < MIN_VERSION:
        return fail("redis", what, "BLMOVE needs Redis 6.2 or newer")
    if latency > LATENCY_WARN_SECONDS:
        return warn("redis", what, "put Redis nearer to the worker")
    return ok("redis", what)


def _persistence(info: dict[str, Any]) -> Result:
    if "aof_enabled" not in info:
        return warn("redis persistence", "unknown: INFO does not say", _BY_HAND)
    if not info["aof_enabled"]:
        what = "no append-only file: a restart of Redis loses queued messages"
        return warn("redis persistence", what, "set appendonly yes (their sessions are refunded after a while)")
    if info.get("aof_last_write_status", "ok") != "ok":
        return fail("redis persistence", "the append-only file could not be written", "look at the disk of Redis")
    return ok("redis persistence", "append-only file")


def _eviction(info: dict[str, Any]) -> Result:
    if "maxmemory_policy" not in info:
        return warn("redis eviction", "unknown: INFO does not say", _BY_HAND)
    policy, limit = str(info["maxmemory_policy"]), info.get("maxmemory")
    if policy == "noeviction":
        return ok("redis eviction", policy)
    remedy = "set maxmemory-policy noeviction: Redis may throw queued messages away when it is full"
    if limit == 0:
        return warn("redis eviction", f"{policy}, without a limit of memory", remedy)
    return fail("redis eviction", f"{policy}, at {limit} bytes" if limit else policy, remedy)

"""Checks of Redis: it answers quickly, is new enough, and keeps what it has."""

import statistics
import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ClusterCrossSlotError, MovedError, NoPermissionError, RedisError

from worker import clients
from worker.doctor.result import Result, fail, ok, warn
from worker.generation import keys
from worker.settings import Settings

#: The first version with BLMOVE.
MIN_VERSION = (6, 2)
LATENCY_WARN_SECONDS = 0.05
#: Of ours, of Celery and of its transport.
_KEYS = (keys.QUEUE, "unacked", "unacked_index", "_kombu.binding.celery")


async def redis(settings: Settings) -> list[Result]:
    """Reachable, quick, new enough, keeps what it has."""
    client = clients.redis_client(settings)
    client.set_retry(Retry(NoBackoff(), 0))
    try:
        async with client:
            latency = await _latency(client)
            # One call: a cluster refuses keys of different slots.
            await client.exists(*_KEYS)
            info: dict[str, Any] = await client.info()
    except AuthenticationError:
        return [fail("redis", "it does not accept the password", "check the user and password in REDIS_URL")]
    except NoPermissionError as error:
        if "access a key" in str(error) or "access one of the keys" in str(error):
            remedy = "give the user of REDIS_URL all keys (~*): Celery's are unacked* and _kombu*"
            return [fail("redis", "its user may not touch all keys of the worker", remedy)]
        return [warn("redis", "it answers, but INFO is not allowed", "check version, AOF and noeviction by hand")]
    except (ClusterCrossSlotError, MovedError):
        return [fail("redis", "it runs in cluster mode", "use a Redis without cluster mode: Celery needs one")]
    except (RedisError, OSError) as error:
        return [fail("redis", f"no answer: {error}", "check REDIS_URL and that Redis runs")]
    return [_version(info, latency), _persistence(info), _eviction(info)]


async def _latency(client: Redis) -> float:
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        await client.ping()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])  # the first one connects


def _version(info: dict[str, Any], latency: float) -> Result:
    version = str(info["redis_version"])
    what = f"version {version}, {latency * 1000:.1f} ms"
    if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
        return fail("redis", what, "BLMOVE needs Redis 6.2 or newer")
    if latency > LATENCY_WARN_SECONDS:
        return warn("redis", what, "put Redis nearer to the worker")
    return ok("redis", what)


def _persistence(info: dict[str, Any]) -> Result:
    if not info.get("aof_enabled"):
        what = "no append-only file: a restart of Redis loses queued messages"
        return warn("redis persistence", what, "set appendonly yes (their sessions are refunded after a while)")
    if info.get("aof_last_write_status") != "ok":
        return fail("redis persistence", "the append-only file could not be written", "look at the disk of Redis")
    return ok("redis persistence", "append-only file")


def _eviction(info: dict[str, Any]) -> Result:
    policy = str(info.get("maxmemory_policy"))
    if policy == "noeviction":
        return ok("redis eviction", policy)
    remedy = "set maxmemory-policy noeviction: Redis may throw queued messages away when it is full"
    return (fail if info.get("maxmemory") else warn)("redis eviction", policy, remedy)

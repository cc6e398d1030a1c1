"""A trial of every command that the worker sends to Redis, with keys that are deleted at the end."""

from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from worker.generation import keys

#: Scripts are sent by EVAL where EVALSHA is refused.
_SCRIPT = "return redis.call('LLEN', KEYS[1])"
#: One of each kind that Celery's programs use beside the worker's queue.
_EXPORTER_KEYS = ("celeryev.doctor", "_kombu.binding.celeryev", "doctor.reply.celery.pidbox", "unacked_mutex")


async def refused_commands(client: Redis) -> list[str]:
    """Names of the commands that the user may not run, or not with the worker's keys."""
    name = uuid4().hex
    # Lists with the prefixes of the worker's own keys: a user may be limited to a part of them.
    trial = _trial(keys.claimed(name), keys.celery_queue(name), keys.alive(name), keys.lease(name), keys.deaths(name))
    # These change nothing in keys that are the worker's.
    trial += [["LTRIM", key, 0, -1] for key in (keys.QUEUE, keys.DEAD)]
    trial += [["EXISTS", key] for key in (*keys.names(), keys.running(name), keys.ended(0))]
    async with client.pipeline(transaction=False) as pipe:
        for words in trial:
            pipe.execute_command(*words)
        answers = await pipe.execute(raise_on_error=False)
    refused = {str(words[0]): None for words, answer in zip(trial, answers, strict=True) if _raise_others(answer)}
    return [*refused, *(["MULTI"] if await _is_transaction_refused(client) else [])]


async def refused_events(client: Redis) -> bool:
    """Tell if Celery's events cannot be published, or celery-exporter cannot hear them with the same user.

    A pattern to listen to has to stand in the user's rights word for word: `&/*.celeryev/*` does not cover it.
    """
    database = client.connection_pool.connection_kwargs.get("db", 0)
    try:
        await client.publish(f"/{database}.celeryev/doctor", "")
        for key in _EXPORTER_KEYS:
            await client.exists(key)
        async with client.pubsub() as events:
            await events.psubscribe(f"/{database}.celeryev/*")
            await events.subscribe(f"/{database}.celery.pidbox")
            for _ in range(2):
                await events.get_message(timeout=5)
    except NoPermissionError:
        return True
    return False


def _trial(one: str, two: str, text: str, table: str, members: str) -> list[list[Any]]:
    return [
        ["LPUSH", one, "x"],
        ["RPUSH", one, "x"],
        ["BLMOVE", one, two, "RIGHT", "LEFT", 1],
        ["LMOVE", one, two, "RIGHT", "LEFT"],
        ["LLEN", two],
        ["LRANGE", two, 0, 0],
        ["LREM", two, 1, "y"],
        ["BRPOP", two, 1],
        ["RPOP", two],
        ["SET", text, "1", "PX", 1000],
        ["GET", text],
        ["MGET", text],
        ["EXISTS", text],
        ["TYPE", text],
        ["RENAME", text, text],
        ["PERSIST", text],
        ["PEXPIRE", text, 1000],
        ["EXPIRE", text, 1],
        ["INCRBY", text, 1],
        ["SETBIT", text, 0, 0],
        ["DECRBY", text, 1],
        ["DEL", text],
        ["LINDEX", one, 0],
        ["HSET", table, "a", "1"],
        ["HSETNX", table, "a", "1"],
        ["HINCRBY", table, "a", 1],
        ["HGET", table, "a"],
        ["HMGET", table, "a"],
        ["HGETALL", table],
        ["HLEN", table],
        ["HEXISTS", table, "a"],
        ["HDEL", table, "a"],
        ["SADD", members, "a"],
        ["SMEMBERS", members],
        ["SISMEMBER", members, "a"],
        ["SCARD", members],
        ["SREM", members, "a"],
        ["ZADD", members, 1, "a"],
        ["ZSCORE", members, "a"],
        ["ZMSCORE", members, "a"],
        ["ZCARD", members],
        ["ZCOUNT", members, 0, 1],
        ["ZRANGE", members, 0, 0, "WITHSCORES"],
        ["ZRANGEBYSCORE", members, 0, 1],
        ["ZRANGEBYLEX", members, "-", "+"],
        ["ZREVRANGEBYLEX", members, "+", "-"],
        ["ZLEXCOUNT", members, "-", "+"],
        ["ZINCRBY", members, 1, "a"],
        ["ZREMRANGEBYSCORE", members, 0, 0],
        ["ZREM", members, "a"],
        ["TIME"],
        ["EVAL", _SCRIPT, 1, one],
        ["DEL", one, two, text, table, members],
    ]


def _raise_others(answer: object) -> bool:
    """Return True for a refusal; raise any other error."""
    if isinstance(answer, Exception) and not isinstance(answer, NoPermissionError):
        raise answer
    return isinstance(answer, NoPermissionError)


async def _is_transaction_refused(client: Redis) -> bool:
    try:
        async with client.pipeline(transaction=True) as pipe:
            pipe.exists(keys.QUEUE)
            await pipe.execute()
    except NoPermissionError:
        return True
    return False

"""A process that wants many calls at once: `limiter_client.py REDIS_URL PER_MINUTE WINDOW_SECONDS SLACK_SECONDS CALLS`.

Every call that the limiter lets through is written down in Redis with Redis' time, as OpenAI would see it.
"""

import asyncio
import sys

from redis.asyncio import Redis

from worker.generation.limiter import Limiter

SEEN = "test:calls-seen"
_NOTE = "local t = redis.call('TIME') redis.call('RPUSH', KEYS[1], t[1] * 1000000 + t[2])"


async def main(url: str, per_minute: str, window: str, slack: str, calls: str) -> None:
    async with Redis.from_url(url) as redis:
        limiter = Limiter(redis, int(per_minute), float(window), (float(slack), float(slack)))
        note = redis.register_script(_NOTE)

        async def call() -> None:
            await limiter.acquire()
            async with connections:
                await note(keys=[SEEN])
            await limiter.sent()

        connections = asyncio.Semaphore(32)
        await asyncio.gather(*(call() for _ in range(int(calls))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

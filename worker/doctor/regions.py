"""Checks of what several regions share: the limiter, and the database that knows them all."""

import time

from redis.exceptions import RedisError

from worker import clients
from worker.clients.redis_connections import problem
from worker.doctor.broker import latency, public_address
from worker.doctor.result import Result, fail, ok, warn
from worker.errors import ServiceUnavailable
from worker.generation import keys
from worker.generation.limiter.share import shares
from worker.generation.region import SILENT_SECONDS, Region
from worker.settings import Settings

#: The limiter's window has room for round trips of up to this.
LATENCY_WARN_SECONDS = 0.3


async def limiter(settings: Settings) -> list[Result]:
    """Check that the limiter of all regions is encrypted where required, answers soon, and has room for the share."""
    if not settings.limiter_redis_url:
        return []
    if public := await public_address(settings.limiter_redis_url):
        what = f"LIMITER_REDIS_URL leads over the internet to {public}, not encrypted"
        return [fail("limiter", what, "use rediss://")]
    share = settings.limiter_local_share
    try:
        async with clients.redis_client(settings, settings.limiter_redis_url) as client:
            seconds = await latency(client)
            await client.exists(keys.LIMITER)
            held = sum((await shares(client)).values())
    except (RedisError, OSError) as error:
        rest = f"this region makes {share} calls a minute" if share else "no call begins"
        say = warn if share else fail
        return [say("limiter", f"{problem(error)} {rest}", "check LIMITER_REDIS_URL and that Redis runs")]
    what = f"{seconds * 1000:.1f} ms, local share {share or 'none'}, {held} calls a minute of all regions"
    if share and held >= settings.openai_requests_per_minute - 1:
        return [warn("limiter", what, "lower LIMITER_LOCAL_SHARE: all shares must stay below the account's limit")]
    if seconds > LATENCY_WARN_SECONDS:
        return [warn("limiter", what, "calls may exceed the limit: put the limiter nearer")]
    return [ok("limiter", what)]


async def region(settings: Settings) -> list[Result]:
    """Check that the database knows the regions, how far it is, and that no region with open sessions is silent."""
    if not settings.region:
        return []
    async with (
        clients.redis_client(settings) as redis,
        clients.http_client(clients.SUPABASE_TIMEOUT, connections=1) as http,
    ):
        known = Region(redis, clients.database_client(settings, http), settings)
        try:
            await known.all()  # connects
            begun = time.perf_counter()
            regions = await known.all()
        except ServiceUnavailable as error:
            return [fail("region", str(error), "apply worker/generation/sql/functions.sql, and check SUPABASE_URL")]
        seconds = time.perf_counter() - begun
    what = f"{settings.region}, {len(regions)} known, database {seconds * 1000:.0f} ms"
    if silent := [row for row in regions if row["silent_seconds"] > SILENT_SECONDS and row["open"]]:
        names = ", ".join(f"{row['name']} ({row['open']} open sessions)" for row in silent)
        return [warn("region", f"{what}; silent: {names}", "start it, or see docs/regions.md, Failover")]
    return [ok("region", what)]

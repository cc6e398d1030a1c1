"""`wearon-worker region`: the regions that serve this database, and the end of one."""

import asyncio

import click
from redis.exceptions import RedisError

from worker import clients
from worker.cli.options import opened_database, opened_redis
from worker.errors import WorkerError
from worker.generation.limiter.share import release_share
from worker.generation.region import Region
from worker.settings import Settings, load


@click.group(name="region")
def command() -> None:
    """List regions, or take over the sessions of a lost region."""


@command.command(name="list")
def list_regions() -> None:
    """List all regions with their open sessions, the longest silent first.

    The number of a silent region includes sessions that no region has started and that stay open because of its
    silence. They may be another region's, and each silent region counts them.
    """
    for region in asyncio.run(_call(None)):
        click.echo(
            f"{region['id']}  {region['name']}  {region['open']} open, seen {region['silent_seconds']:.0f} s ago"
        )


@command.command()
@click.argument("region_id", metavar="ID")
def adopt(region_id: str) -> None:
    """Take over the sessions of a region whose Redis is lost for good.

    This region ends and refunds the open sessions. If the Redis can be read, `queue move` its messages first.
    The lost region's share of the calls to OpenAI (LIMITER_LOCAL_SHARE) is free again.
    """
    (found,) = asyncio.run(_call(region_id))
    click.echo(f"{found['adopted']} sessions taken over; the next sweeps end and refund those that are open")


async def _call(adopted: str | None) -> list[dict[str, object]]:
    settings = load()
    if adopted is not None and not settings.region:
        raise WorkerError("REGION is not set: this worker knows no regions")
    async with opened_redis(settings) as redis, opened_database(settings) as database:
        region = Region(redis, database, settings)
        if adopted is None:
            return await region.all()
        count = await region.adopt(adopted)
        if count is not None and settings.limiter_redis_url:
            await _release_share(settings, adopted)
    if count is None:
        raise WorkerError(f"{adopted} is no region that is silent for 2 minutes; see `wearon-worker region list`")
    return [{"adopted": count}]


async def _release_share(settings: Settings, region: str) -> None:
    try:
        async with clients.redis_client(settings, settings.limiter_redis_url) as limiter:
            await release_share(limiter, region)
    except (RedisError, OSError) as error:
        click.echo(f"the limiter did not answer ({type(error).__name__}): its share is free again in a day", err=True)

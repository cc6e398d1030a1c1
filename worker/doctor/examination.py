"""All checks at once, each within its time."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import stamina

from worker.doctor import broker, image_api, machine, regions, supabase
from worker.doctor.result import Result, fail, ok
from worker.settings import Settings

#: All checks run together, so this is nearly all that the doctor takes.
LIMIT_SECONDS = 8.0

CHECKS: dict[str, Callable[[Settings], Awaitable[list[Result]]]] = {
    "dns": machine.dns,
    "redis": broker.redis,
    "limiter": regions.limiter,
    "database": supabase.database,
    "region": regions.region,
    "bucket": supabase.bucket,
    "openai": image_api.models,
    "clock": machine.clock,
    "disk": machine.disk,
    "pose model": machine.pose_model,
}


async def examine(settings: Settings) -> list[Result]:
    """The results of all checks, in their order, after LIMIT_SECONDS at most."""
    asyncio.get_running_loop().set_default_executor(_Daemons())
    stamina.instrumentation.set_on_retry_hooks([])  # it would write to stdout
    answers = await asyncio.gather(*(_bounded(name, settings) for name in CHECKS))
    what = f"complete: {settings.worker_concurrency} at once, {settings.openai_requests_per_minute} calls a minute"
    return [ok("settings", what), *(result for results in answers for result in results)]


async def _bounded(name: str, settings: Settings) -> list[Result]:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            return [_clean(result, settings) for result in await CHECKS[name](settings)]
    except TimeoutError:
        return [fail(name, f"no answer within {LIMIT_SECONDS:g} s", "check the network, firewall and that host")]
    except Exception as error:
        what = f"the check itself failed: {type(error).__name__}: {error}"
        return [_clean(fail(name, what, "please report it"), settings)]


def _clean(result: Result, settings: Settings) -> Result:
    """The result without the settings' secrets, which any library may put into an error's text."""
    passwords = [urlsplit(url).password for url in (settings.redis_url, settings.limiter_redis_url)]
    secrets = [settings.supabase_service_role_key.get_secret_value(), settings.openai_api_key.get_secret_value()]
    what = result.what
    for secret in filter(None, [*secrets, *passwords]):
        what = what.replace(secret, "***")
    return Result(result.name, result.status, " ".join(what.split()), result.remedy)


class _Daemons(ThreadPoolExecutor):
    """Threads that no exit waits for: a name server that never answers must not keep the command from ending."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future

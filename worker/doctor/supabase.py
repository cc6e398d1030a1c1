"""Checks of Supabase: the key, the tables, the SQL functions and the bucket."""

from urllib.parse import urlsplit

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from worker import clients
from worker.doctor.result import Result, fail, ok, warn
from worker.errors import ServiceUnavailable
from worker.generation.channel import Channel
from worker.generation.sessions.sessions import MIGRATION, Sessions
from worker.generation.supabase.database import FunctionMissing, run
from worker.generation.supabase.refusals import KEY_REMEDY, refusal
from worker.generation.supabase.storage_answers import Meaning, read
from worker.settings import Settings
from worker.settings.supabase_key import is_jwt

#: What fail_generation calls (generation/sql); the worker's own functions are checked by `Sessions`.
REFUND_FUNCTIONS = ("refund_credits", "refund_store_credits", "refund_store_shopper_credits")
JPEG = "image/jpeg"
#: A finished picture in the best quality is smaller.
PICTURE_BYTES = 10_000_000
#: A bucket that takes less takes hardly any picture.
_SMALL_PICTURE_BYTES = 1_000_000
_TIMEOUT = httpx.Timeout(6.0)
#: PostgREST may not know yet what was installed a moment ago.
_SCHEMA_PATIENCE_SECONDS = 3.0


async def database(settings: Settings) -> list[Result]:
    """Check that the key is accepted, both session tables can be read, and the database has the worker's functions."""
    async with clients.http_client(_TIMEOUT, connections=2) as http:
        client = clients.database_client(settings, http)
        try:
            for channel in Channel:
                await run(client.table(channel.table).select("id").limit(1), "it refuses")
        except ServiceUnavailable as error:
            return [_refused("database", error)]
        return [_key(settings), await _functions(client), *await _ledgers(client), *await _events(client)]


def _key(settings: Settings) -> Result:
    what = "key accepted, session tables readable"
    hosted = (urlsplit(settings.supabase_url).hostname or "").endswith(".supabase.co")
    if hosted and is_jwt(settings.supabase_service_role_key.get_secret_value()):
        remedy = "Supabase ends JWT keys with 2026: put a secret key (sb_secret_...) into SUPABASE_SERVICE_ROLE_KEY"
        return warn("database", what, remedy)
    return ok("database", what)


async def _functions(client: AsyncPostgrestClient) -> Result:
    try:
        installed = await Sessions(client).installed(_SCHEMA_PATIENCE_SECONDS)
    except ServiceUnavailable as error:
        return _refused("functions", error)
    if installed.missing:
        remedy = (
            f"apply this version's {MIGRATION.name}: psql -v ON_ERROR_STOP=1 -f {MIGRATION.name}; "
            "if that is done, reload PostgREST's schema: notify pgrst, 'reload schema'"
        )
        return fail("functions", f"missing or outdated: {', '.join(installed.missing)}", remedy)
    if absent := [name for name in REFUND_FUNCTIONS if name not in installed.functions]:
        return fail("functions", f"missing: {', '.join(absent)}", "no refund works; they belong to the product")
    newer = ", newer than this worker's" if installed.newer else ""
    return ok("functions", f"version {installed.version}{newer}, refund functions present")


async def _ledgers(client: AsyncPostgrestClient) -> list[Result]:
    """Warn if signed-in users may change balances or ledgers. Return nothing without the functions."""
    try:
        writable = await run(client.rpc("wearon_examine", {}), "it refuses")
    except FunctionMissing:
        return []
    except ServiceUnavailable as error:
        return [_refused("ledgers", error)]
    if not isinstance(writable, dict) or not writable:
        return [ok("ledgers", "balances and ledgers are writable by the service role alone")]
    ways = "; ".join(f"{table}: {', '.join(map(str, roles))}" for table, roles in sorted(writable.items()))
    remedy = "read docs/hardening.md, then apply `wearon-worker schema --hardening`"
    return [warn("ledgers", f"users may change credits, {ways}", remedy)]


async def _events(client: AsyncPostgrestClient) -> list[Result]:
    """Warn if the boards' tables take no events. Return nothing without the functions."""
    try:
        refused = await run(client.rpc("wearon_event_examine", {}), "it refuses")
    except FunctionMissing:
        return []
    except ServiceUnavailable as error:
        return [_refused("events", error)]
    if not isinstance(refused, dict) or not refused:
        return [ok("events", "the tables of the quality boards take the sessions' events")]
    what = "; ".join(f"{table}: {text}" for table, text in sorted(refused.items()))
    remedy = "mend the table as the server says; results and refunds are not affected, the boards miss these sessions"
    return [warn("events", f"the quality boards' tables take no events: {what}", remedy)]


def _refused(check: str, error: ServiceUnavailable) -> Result:
    """The line for a call of the database that failed, with the remedy where the answer's meaning is known."""
    if isinstance(error.__cause__, APIError | httpx.HTTPStatusError):
        refused = refusal(error.__cause__)
        return fail(check, f"it refuses: {refused.what}", refused.remedy or "see the project in the Supabase dashboard")
    what = f"no answer: {type(error.__cause__).__name__}" if error.__cause__ else str(error)  # an unusable answer
    return fail(check, what, "check SUPABASE_URL")


async def bucket(settings: Settings) -> list[Result]:
    """Check that the bucket exists and takes our pictures, without a write: the service role may write everywhere."""
    name = settings.supabase_storage_bucket
    async with clients.http_client(_TIMEOUT, connections=1) as http:
        url = f"{settings.supabase_url}/storage/v1/bucket/{name}"
        try:
            answer = await http.get(url, headers=clients.supabase_headers(settings))
            answer.raise_for_status()
            body = answer.json()
            if not isinstance(body, dict):
                raise TypeError("not an object")
        except httpx.HTTPStatusError as error:
            return [_bucket_refused(name, error)]
        except (httpx.HTTPError, ValueError, TypeError) as error:
            return [fail("bucket", f"no answer: {type(error).__name__}", "check SUPABASE_URL")]
    types, size = body.get("allowed_mime_types"), body.get("file_size_limit")
    if types and not {JPEG, "image/*"} & set(types):
        return [fail("bucket", f"{name} takes only {', '.join(types)}", f"allow {JPEG}")]
    if size and int(size) < PICTURE_BYTES:
        say = fail if int(size) < _SMALL_PICTURE_BYTES else warn
        return [say("bucket", f"{name} takes at most {size} bytes", f"allow {PICTURE_BYTES}")]
    if body.get("public"):
        return [warn("bucket", f"{name} is public: a path is enough to see the picture", "make it private")]
    return [ok("bucket", f"{name} is there and private")]


def _bucket_refused(name: str, error: httpx.HTTPStatusError) -> Result:
    answer = read(error)
    if answer.meaning is Meaning.AWAY:
        return fail("bucket", f"{name}: {answer.detail}", refusal(error).remedy or "see the Supabase dashboard")
    missing = "bucket not found" in answer.detail.lower()
    remedy = f"create the bucket {name} or set SUPABASE_STORAGE_BUCKET" if missing else refusal(error).remedy
    return fail("bucket", f"{name}: {answer.detail}", remedy or KEY_REMEDY)

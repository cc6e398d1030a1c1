"""Checks of Supabase: the key, the tables, the SQL functions and the bucket."""

from typing import Any

import httpx
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from worker import clients
from worker.doctor.result import Result, fail, ok, warn
from worker.errors import ServiceUnavailable
from worker.generation.sessions import MIGRATION, TABLES, Sessions
from worker.settings import Settings

#: What fail_generation calls (contracts.md section 2); the worker's own functions are checked by `Sessions`.
REFUND_FUNCTIONS = ("refund_credits", "refund_store_credits", "refund_store_shopper_credits")
JPEG = "image/jpeg"
#: A finished picture in the best quality is smaller.
PICTURE_BYTES = 10_000_000
_TIMEOUT = httpx.Timeout(6.0)


async def database(settings: Settings) -> list[Result]:
    """The key is accepted, both session tables can be read, and the functions are those that the worker calls."""
    async with clients.http_client(_TIMEOUT, connections=2) as http:
        client = clients.database_client(settings, http)
        try:
            for table in TABLES.values():
                await client.table(table).select("id").limit(1).execute()
        except APIError as error:
            return [fail("database", f"it refuses: {error.message}", clients.KEY_REMEDY)]
        except httpx.HTTPError as error:
            return [fail("database", f"no answer: {type(error).__name__}", "check SUPABASE_URL")]
        return [ok("database", "key accepted, session tables readable"), await _functions(client)]


async def _functions(client: AsyncPostgrestClient) -> Result:
    try:
        if missing := await Sessions(client).missing_functions():
            remedy = f"apply this version's {MIGRATION.name}: psql -v ON_ERROR_STOP=1 -f {MIGRATION.name}"
            return fail("functions", f"missing or outdated: {', '.join(missing)}", remedy)
        installed: Any = (await client.rpc("wearon_worker_functions", {}).execute()).data
    except (ServiceUnavailable, APIError, httpx.HTTPError) as error:
        return fail("functions", str(error), clients.KEY_REMEDY)
    if absent := [name for name in REFUND_FUNCTIONS if name not in installed["functions"]]:
        return fail("functions", f"missing: {', '.join(absent)}", "no refund works; they belong to the product")
    return ok("functions", f"version {installed['version']}, refund functions present")


async def bucket(settings: Settings) -> list[Result]:
    """The bucket exists and takes our pictures. Nothing is written: the service role may write to every bucket."""
    name = settings.supabase_storage_bucket
    async with clients.http_client(_TIMEOUT, connections=1) as http:
        url = f"{settings.supabase_url}/storage/v1/bucket/{name}"
        try:
            answer = await http.get(url, headers=clients.supabase_headers(settings))
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return [fail("bucket", f"no answer: {type(error).__name__}", "check SUPABASE_URL")]
    if not answer.is_success:
        remedy = f"create the bucket {name} or set SUPABASE_STORAGE_BUCKET"
        return [fail("bucket", f"{name}: {answer.status_code} {body.get('message', '')}", remedy)]
    types, size = body.get("allowed_mime_types"), body.get("file_size_limit")
    if types and not {JPEG, "image/*"} & set(types):
        return [fail("bucket", f"{name} takes only {', '.join(types)}", f"allow {JPEG}")]
    if size and int(size) < PICTURE_BYTES:
        return [warn("bucket", f"{name} takes at most {size} bytes", f"allow {PICTURE_BYTES}")]
    if body.get("public"):
        return [warn("bucket", f"{name} is public: whoever knows a path sees the picture", "make it private")]
    return [ok("bucket", f"{name} is there and private")]

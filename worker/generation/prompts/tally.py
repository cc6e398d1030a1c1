"""Results of prompt versions, as the database adds them up."""

from datetime import datetime
from uuid import UUID

from postgrest import AsyncPostgrestClient

from worker.errors import ServiceUnavailable
from worker.generation.supabase.database import call
from worker.prompts.results import Results

#: The database keeps the ends of sessions for so long.
KEPT_DAYS = 30


async def tally(database: AsyncPostgrestClient, since: datetime, store: UUID | None = None) -> dict[str, Results]:
    """Return the results of each version, the most sessions first; raise ServiceUnavailable."""
    parameters = {"p_since": since.isoformat(), "p_store_id": str(store) if store else None}
    answer = await call(database, "wearon_prompt_results", parameters)
    try:
        return {found.version: found for found in map(Results.read, answer["versions"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServiceUnavailable(f"database answered with unusable results: {type(error).__name__}") from error

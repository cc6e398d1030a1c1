"""Session rows in Supabase: every change of state goes through the SQL functions in sql/."""

from pathlib import Path
from typing import Any
from uuid import UUID

from postgrest import AsyncPostgrestClient

from worker.errors import ServiceUnavailable, WorkerError
from worker.generation.channel import Channel, SessionRef
from worker.generation.outcome import Outcome
from worker.generation.region import Region
from worker.generation.retrying import retry_for, until_available
from worker.generation.sessions.change import Change
from worker.generation.supabase.database import FunctionMissing, call, rows, run
from worker.generation.supabase.installed import MIGRATION_VERSION, REGION_SIGNATURES, SIGNATURES, Installed
from worker.logs import get_logger

log = get_logger(__name__)

MIGRATION = Path(__file__).parents[1] / "sql" / "functions.sql"
HARDENING = MIGRATION.with_name("hardening.sql")
#: PostgREST learns of a fresh migration within this.
_SCHEMA_PATIENCE_SECONDS = 10.0


class Sessions:
    """All methods raise ServiceUnavailable when the database made no change; each may then be repeated."""

    def __init__(self, database: AsyncPostgrestClient, region: Region | None = None) -> None:
        self._database = database
        self._region = region
        self._facts = {"region": region.name} if region else {}

    async def start(self, session: SessionRef, owner_id: UUID) -> Change:
        """queued|pending -> processing."""
        if self._region:
            region = await self._region.id()
            return await self._change("wearon_region_start", session, p_owner_id=str(owner_id), p_region=region)
        return await self._change("start_generation", session, p_owner_id=str(owner_id))

    async def requeue(self, session: SessionRef) -> Change:
        """processing -> queued."""
        return await self._change("requeue_generation", session)

    async def complete(self, outcome: Outcome) -> Change:
        """processing -> completed."""
        return await self._change(
            "complete_generation",
            outcome.session,
            p_image_url=outcome.image_url,
            p_input_tokens=outcome.input_tokens,
            p_output_tokens=outcome.output_tokens,
            p_cost_usd=None if outcome.cost_usd is None else float(outcome.cost_usd),
            p_processing_time_ms=outcome.processing_time_ms,
            p_event={**outcome.event, **self._facts},
        )

    async def fail(
        self, session: SessionRef, message: str, processing_time_ms: int | None, facts: dict[str, Any] | None = None
    ) -> Change:
        """queued|pending|processing -> failed, with the refund to the payer; `facts` go into the session's event."""
        return await self._change(
            "fail_generation",
            session,
            p_message=message,
            p_processing_time_ms=processing_time_ms,
            p_event={**(facts or {}), **self._facts},
        )

    async def installed(self, patience_seconds: float = 0) -> Installed:
        """The SQL functions that the database has; PostgREST gets that long to notice a fresh migration."""
        try:
            answer = await retry_for(patience_seconds)(call, self._database, "wearon_worker_functions", {})
        except FunctionMissing:
            answer = {}
        return Installed.read(answer, MIGRATION_VERSION, SIGNATURES | (REGION_SIGNATURES if self._region else {}))

    async def usable(self) -> bool:
        """Return True while the database answers and has the SQL functions."""
        try:
            return not (await self.installed()).missing
        except ServiceUnavailable:
            return False

    async def require_functions(self) -> None:
        """Wait for the database. Raise WorkerError if it lacks SQL functions that this worker calls."""
        installed = await until_available(self.installed, _SCHEMA_PATIENCE_SECONDS)
        if missing := installed.missing:
            raise WorkerError(
                f"the database lacks these SQL functions, or has other versions of them: {', '.join(missing)}. "
                f'Install them with: psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f {MIGRATION}'
            )
        if installed.newer:
            log.info("functions_newer", installed_version=installed.version, needed_version=MIGRATION_VERSION)

    async def find(self, session_id: UUID, owner_ids: set[str]) -> SessionRef | None:
        """The only session with this id; where both channels have one, the session of these owners."""
        found: dict[Channel, str] = {}
        for channel in Channel:
            owner = channel.owner_column
            query = self._database.table(channel.table).select(owner).eq("id", str(session_id)).limit(1)
            for row in rows(await run(query), owner):
                found[channel] = str(row[owner])
        channels = [channel for channel in found if len(found) == 1 or found[channel] in owner_ids]
        return SessionRef(channels[0], session_id) if len(channels) == 1 else None

    async def status(self, session: SessionRef) -> str:
        """Return the session's status, empty if there is no such session."""
        query = self._database.table(session.channel.table).select("status").eq("id", str(session.id)).limit(1)
        found = rows(await run(query), "status")
        return str(found[0]["status"]) if found else ""

    async def _change(self, function: str, session: SessionRef, **parameters: Any) -> Change:
        ids = {"p_channel": session.channel, "p_session_id": str(session.id)}
        return Change.read(function, await call(self._database, function, {**ids, **parameters}))

"""Questions that tests and reports ask the database, past the worker and the gateway."""

from time import monotonic, sleep
from uuid import UUID

from tests.sandbox.database import Database, Row

SESSION_TABLES = {"b2c": "generation_sessions", "b2b": "store_generation_sessions"}


class Records:
    """Sessions, ledgers and balances, and the records of the witness triggers."""

    database: Database

    def session(self, channel: str, session_id: str | UUID) -> Row:
        """The session's row; KeyError when there is none."""
        row = self.database.row(f"select * from {SESSION_TABLES[channel]} where id = $1", session_id)
        if row is None:
            raise KeyError(f"no {channel} session {session_id}")
        return row

    def ledger(self, owner_id: str | UUID | None = None) -> list[Row]:
        """All ledger rows of users and stores in order, or those of one owner."""
        return self.database.fetch(
            "select * from (select user_id as owner_id, amount, type, null as request_id, description, created_at "
            "from credit_transactions union all select store_id, amount, type, request_id, description, created_at "
            "from store_credit_transactions) rows where $1::uuid is null or owner_id = $1 order by created_at",
            owner_id,
        )

    def balance(self, owner_id: str | UUID, shopper_email: str | None = None) -> int:
        """Credits of a user, a store, or a shopper of a store."""
        return int(
            self.database.value(
                "select balance from store_shopper_credits where store_id = $1 and shopper_email = lower($2) union all "
                "select balance from user_credits where user_id = $1 and $2::text is null union all "
                "select balance from store_credits where store_id = $1 and $2::text is null",
                owner_id,
                shopper_email,
            )
        )

    def status_of_each(self) -> dict[str, str]:
        """The status of each session by its id, in one question: waits ask again and again."""
        tables = " union all ".join(f"select id::text, status from {table}" for table in SESSION_TABLES.values())
        return {row["id"]: row["status"] for row in self.database.fetch(tables)}

    def statuses(self, session_id: str | UUID) -> list[str]:
        """Every status that the session has had, as the database's triggers saw it."""
        sql = "select new_status from witness.status_changes where session_id = $1 order by id"
        return [row["new_status"] for row in self.database.fetch(sql, session_id)]

    def balance_changes(self, owner_id: str | UUID) -> list[int]:
        """Every change of the owner's balance (and of a store's shoppers), as the triggers saw it."""
        sql = "select delta from witness.balance_changes where owner_id = $1 order by id"
        return [row["delta"] for row in self.database.fetch(sql, owner_id)]

    def settled(self, channel: str, session_id: str | UUID, timeout: float = 30) -> Row:
        """The session's row once it is completed or failed; TimeoutError when that takes too long."""
        deadline = monotonic() + timeout
        while (row := self.session(channel, session_id))["status"] not in ("completed", "failed"):
            if monotonic() > deadline:
                raise TimeoutError(f"{channel} session {session_id} is still {row['status']} after {timeout:g} s")
            sleep(0.02)
        return row

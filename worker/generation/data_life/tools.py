"""The wiring of a purge and an erasure, for the supervisor and the command line."""

from postgrest import AsyncPostgrestClient
from redis.asyncio import Redis
from storage3 import AsyncStorageClient

from worker.generation.data_life.bucket import Bucket
from worker.generation.data_life.purge import Erasure, Purge
from worker.generation.data_life.record import Record
from worker.generation.data_life.remains import Remains
from worker.generation.data_life.rows import Rows
from worker.generation.queue.dead_letters import DeadLetters
from worker.settings import Settings


class Tools:
    """Connects to nothing."""

    def __init__(
        self, settings: Settings, database: AsyncPostgrestClient, storage: AsyncStorageClient, redis: Redis
    ) -> None:
        self._hours = settings.data_life_hours
        self._bucket = Bucket(storage, settings.supabase_storage_bucket, settings.data_life_requests_per_second)
        self._rows = Rows(database)
        dead_letters = DeadLetters(redis, settings.dead_letters_max, settings.dead_letters_max_bytes)
        self._remains = Remains(redis, dead_letters)
        self.record = Record(redis)

    def purge(self) -> Purge:
        """Everything that is older than DATA_LIFE_HOURS."""
        return Purge(self._bucket, self._rows, self._remains, self.record, self._hours)

    def erasure(self) -> Erasure:
        """One owner's data, whatever its age."""
        return Erasure(self._bucket, self._rows, self._remains)

"""The Supabase bucket: where finished pictures are kept, and the signed addresses that the app shows."""

from uuid import UUID

import httpx
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError
from storage3.utils import StorageException

from worker.errors import AccountRefused, ServiceUnavailable, StorageFailed
from worker.generation.message import Channel


class Storage:
    """Raises ServiceUnavailable when a repetition may help, StorageFailed when it will not."""

    def __init__(self, client: AsyncStorageClient, bucket: str, signed_url_seconds: int) -> None:
        self._bucket = client.from_(bucket)
        self._signed_url_seconds = signed_url_seconds

    async def upload(self, path: str, jpeg: bytes) -> None:
        """Store the picture; one that is already there is replaced, so a repeated upload is harmless."""
        try:
            await self._bucket.upload(path, jpeg, {"content-type": "image/jpeg", "upsert": "true"})
        except (httpx.HTTPError, StorageException, ValueError, KeyError) as error:
            raise _translate(error, f"upload of {path}") from error

    async def check(self, path: str) -> None:
        """Prove that an upload to `path` works."""
        await self.upload(path, b"proof")

    async def sign(self, path: str) -> str:
        """An address that shows the picture to whoever has it, for the configured time."""
        try:
            return str((await self._bucket.create_signed_url(path, self._signed_url_seconds))["signedURL"])
        except (httpx.HTTPError, StorageException, ValueError, KeyError) as error:
            raise _translate(error, f"signed URL of {path}") from error


def result_path(channel: Channel, owner_id: UUID, session_id: UUID) -> str:
    """Where the contract wants a session's picture."""
    return (
        f"generated/{owner_id}/{session_id}.jpg"
        if channel == "b2c"
        else f"stores/{owner_id}/generated/{session_id}.jpg"
    )


def _translate(error: Exception, what: str) -> Exception:
    if isinstance(error, StorageApiError):
        status = int(error.status) if str(error.status).isdigit() else 500
        if status in (403, 404, 413):
            return AccountRefused("storage_refused", f"{what}: {status} {error.code} {error.message[:200]}")
        final = 400 <= status < 500 and status not in (408, 409, 423, 425, 429)
        return (StorageFailed if final else ServiceUnavailable)(f"{what}: {status} {error.code} {error.message[:200]}")
    return ServiceUnavailable(f"{what}: {type(error).__name__}")

"""The Supabase bucket: where finished pictures are kept, and the signed addresses that the app shows."""

from functools import cache
from io import BytesIO

from PIL import Image
from storage3 import AsyncStorageClient

from worker.errors import AccountRefused, ServiceUnavailable, StorageFailed, WorkerError
from worker.generation.retrying import retry_for
from worker.generation.supabase.storage_answers import FAILURES, Answer, Meaning, read
from worker.logs import get_logger

log = get_logger(__name__)

_REMOVAL_PATIENCE_SECONDS = 5.0


class Storage:
    """Each method raises by the meaning of Storage's answer.

    ServiceUnavailable: a repetition may help. AccountRefused: the key, the bucket, a policy or a quota refuses every
    picture. StorageFailed: this one picture is refused.
    """

    def __init__(self, client: AsyncStorageClient, bucket: str, signed_url_seconds: int) -> None:
        self._bucket = client.from_(bucket)
        self._signed_url_seconds = signed_url_seconds

    async def upload(self, path: str, jpeg: bytes) -> None:
        """Store the picture in the place of an earlier one, so that a repeated upload is harmless."""
        what = f"upload of {path}"
        try:
            await self._put(path, jpeg, upsert=True)
        except FAILURES as failure:
            answer = read(failure)
            if answer.meaning is Meaning.EXISTS:  # two uploads at once
                raise ServiceUnavailable(f"{what}: {answer.detail}") from failure
            if answer.meaning is Meaning.UNCLEAR:
                await self.check(path)
                raise StorageFailed(f"{what}: {answer.detail}; another picture is taken") from failure
            raise _error(answer, what) from failure

    async def sign(self, path: str) -> str:
        """An address that shows the picture without a login, for the configured time."""
        try:
            return str((await self._bucket.create_signed_url(path, self._signed_url_seconds))["signedURL"])
        except FAILURES as failure:
            answer, what = read(failure), f"signed URL of {path}"
            if answer.meaning is Meaning.MISSING:
                raise StorageFailed(f"{what}: {answer.detail}") from failure
            raise _error(answer, what) from failure

    async def has(self, path: str) -> bool:
        """Tell if a picture is there; the proof of an upload is none."""
        try:
            return bool(await self._bucket.download(path) != _proof())
        except FAILURES as failure:
            answer = read(failure)
            if answer.meaning is Meaning.MISSING:
                return False
            raise _error(answer, f"look at {path}") from failure

    async def check(self, path: str) -> None:
        """Prove that an upload to `path` would be taken, by a picture of one pixel that is removed again.

        A picture that is already there is neither replaced nor removed.
        """
        try:
            await self._put(path, _proof(), upsert=False)
        except FAILURES as failure:
            answer = read(failure)
            if answer.meaning is not Meaning.EXISTS:
                raise _error(answer, f"proof of an upload to {path}") from failure
            # A proof whose answer was lost goes, too.
            if not await self._is_proof(path):
                return
        await self._remove(path)

    async def _put(self, path: str, jpeg: bytes, *, upsert: bool) -> None:
        await self._bucket.upload(path, jpeg, {"content-type": "image/jpeg", "upsert": "true" if upsert else "false"})

    async def _is_proof(self, path: str) -> bool:
        try:
            return bool(await self._bucket.download(path) == _proof())
        except FAILURES:
            return False

    async def _remove(self, path: str) -> None:
        try:
            await retry_for(_REMOVAL_PATIENCE_SECONDS)(self._remove_once, path)
        except (ServiceUnavailable, AccountRefused) as error:
            # The upload is proven all the same, and the session's own picture replaces the proof.
            log.warning("upload_proof_left", path=path, error=str(error))

    async def _remove_once(self, path: str) -> None:
        try:
            await self._bucket.remove([path])
        except FAILURES as failure:
            raise _error(read(failure), f"removal of {path}") from failure


@cache
def _proof() -> bytes:
    file = BytesIO()
    Image.new("L", (1, 1)).save(file, "JPEG")
    return file.getvalue()


def _error(answer: Answer, what: str) -> WorkerError:
    if answer.meaning is Meaning.AWAY:
        return ServiceUnavailable(f"{what}: {answer.detail}")
    return AccountRefused("storage_refused", f"{what}: {answer.detail}")

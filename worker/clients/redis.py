"""redis-py's client with scripts that every managed service takes, and a mending of keys of another type."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from redis import asyncio
from redis.commands.core import AsyncScript
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from worker.clients.redis_connections import TakesNoWrites


class Script(AsyncScript):
    """A Lua script that needs neither SCRIPT LOAD nor EVALSHA: some managed services refuse them."""

    async def __call__(
        self, keys: Sequence[Any] | None = None, args: Iterable[Any] | None = None, client: Any = None
    ) -> Any:
        """Run the script, by its digest if the server knows and allows that."""
        on: Any = client or self.registered_client
        own: Any = self.registered_client
        refuser = own.connection_pool  # one user, and one answer for all of its connections
        words = [*(keys or ()), *(args or ())]
        count = len(keys or ())
        if not getattr(refuser, "refuses_digests", False):
            try:
                return await on.evalsha(self.sha, count, *words)
            except NoScriptError:
                pass
            except NoPermissionError:
                refuser.refuses_digests = True
        return await on.eval(self.script, count, *words)


class Pipeline(asyncio.client.Pipeline):
    """Several commands at once."""

    mend: Callable[[Sequence[Any]], Awaitable[None]]

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run the commands, as `Client.execute_command` does with one."""
        words: list[Any] = [word for arguments, _ in self.command_stack for word in arguments]
        try:
            return await super().execute(raise_on_error)
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                await self.mend(words)
            raise


class Client(asyncio.Redis):
    """redis-py's client with the connections and scripts above.

    `on_wrong_type` is awaited before the error of a command that found a key of another type is raised. It gets the
    words of the command, the names of keys among them.
    """

    on_wrong_type: Callable[[asyncio.Redis, list[str]], Awaitable[None]] | None = None

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Run a command. Mend keys of another type, and open connections anew whose server takes no writes."""
        try:
            return await super().execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
        except TakesNoWrites:
            await self.connection_pool.disconnect(inuse_connections=False)
            raise
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                await self._mend(arguments)
            raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands."""
        pipe = Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.mend = self._mend
        return pipe

    async def _mend(self, words: Sequence[Any]) -> None:
        if self.on_wrong_type:
            names = {word.decode() if isinstance(word, bytes) and word.isascii() else word for word in words}
            await self.on_wrong_type(self, sorted(name for name in names if isinstance(name, str)))

    def register_script(self, script: Any) -> Any:
        """The script, not sent yet."""
        return Script(self, script)

"""The surrounding world of the worker: Valkey, PostgreSQL, Supabase, OpenAI and a photo host, all on 127.0.0.1."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sandbox.sandbox import Sandbox

__all__ = ["Sandbox"]


def __getattr__(name: str) -> Any:
    # Late, so that the server process does not load what only the tests' side needs.
    if name != "Sandbox":
        raise AttributeError(name)
    from tests.sandbox.sandbox import Sandbox

    return Sandbox

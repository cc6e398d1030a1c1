"""The surrounding world of the worker: Valkey, PostgreSQL, Supabase, OpenAI and a photo host, all on 127.0.0.1."""

from tests.sandbox.sandbox import Sandbox

__all__ = ["Sandbox"]

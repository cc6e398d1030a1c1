"""The worker's SQL functions as a database has them, held against what this version of the worker calls."""

from dataclasses import dataclass
from typing import Any, Self

#: What the migration must be at least; raised with every change of a function's behaviour.
MIGRATION_VERSION = 7
SIGNATURES = {
    "start_generation": "p_channel text, p_session_id uuid, p_owner_id uuid",
    "requeue_generation": "p_channel text, p_session_id uuid",
    "complete_generation": (
        "p_channel text, p_session_id uuid, p_image_url text, p_input_tokens integer, p_output_tokens integer, "
        "p_cost_usd numeric, p_processing_time_ms integer, p_event jsonb"
    ),
    "fail_generation": "p_channel text, p_session_id uuid, p_message text, p_processing_time_ms integer, p_event jsonb",
}
#: ... and where there are regions.
REGION_SIGNATURES = {"wearon_region_start": "p_channel text, p_session_id uuid, p_owner_id uuid, p_region uuid"}


@dataclass(frozen=True)
class Installed:
    """`version` is the database's, 0 without the migration; `missing` is empty when this worker can work with it."""

    version: int
    newer: bool
    missing: list[str]
    #: Parameters of every function that the database names, the product's refund functions among them.
    functions: dict[str, Any]

    @classmethod
    def read(cls, answer: dict[str, Any], needed_version: int, needed: dict[str, str]) -> Self:
        """The answer of wearon_worker_functions, whose other versions may say more or less."""
        version, functions = answer.get("version"), answer.get("functions")
        version = version if isinstance(version, int) else 0
        functions = functions if isinstance(functions, dict) else {}
        newer = version > needed_version
        missing = sorted(
            name
            for name, parameters in needed.items()
            if version < needed_version or not _takes(str(functions.get(name, "")), parameters, newer)
        )
        return cls(version, newer, missing, functions)


def _takes(found: str, sent: str, newer: bool) -> bool:
    """Return True if a function takes the parameters that are sent. A newer function may take more, with defaults."""
    return found == sent or (newer and set(sent.split(", ")) <= set(found.split(", ")))

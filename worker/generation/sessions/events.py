"""Events that the boards' tables refuse. Each reason is logged once: every further session would repeat it."""

from worker.logs import get_logger
from worker.metrics import counter

log = get_logger(__name__)

_REFUSED = counter("wearon_events_refused_total", "Events of sessions that the boards' tables did not take.")
#: SQLSTATE -> the reason in words; any other is logged as it is.
_WORDS = {
    "42P01": "the table is missing",
    "42703": "a column is missing",
    "42501": "the service role may not insert",
    "23503": "a foreign key is violated",
    "23514": "a check constraint is violated",
    "23502": "a column that is not null has no default",
    "55P03": "the table is locked",
    "57014": "a trigger takes longer than the statement may",
    "P0001": "a trigger refuses",
}
#: Reasons that were logged; a few dozen at most.
_said: set[str] = set()


def refused(error: str) -> None:
    """Count an event that was not written, and log its reason (`table: SQLSTATE`) once."""
    _REFUSED.inc()
    if error not in _said:
        _said.add(error)
        table, _, state = error.partition(": ")
        log.error(
            "event_not_written",
            table=table,
            sqlstate=state,
            why=_WORDS.get(state, "see `wearon-worker doctor`"),
            effect="results and refunds are not affected; the quality boards miss these sessions",
        )

"""Metrics of sessions and messages. The process that settles a session counts the session: either of the two."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from worker.errors import GenerationError, ModerationBlocked
from worker.generation.channel import Channel
from worker.generation.openai.meaning import REASONS as OPENAI_REASONS
from worker.generation.outcome import Outcome
from worker.metrics import counter, gauge, histogram
from worker.prompts import catalogue


def _reasons(kind: type[GenerationError] = GenerationError) -> Iterator[str]:
    yield kind.reason
    for special in kind.__subclasses__():
        yield from _reasons(special)


OUTCOMES = ("completed", "failed")
REASONS = frozenset(_reasons())
STEPS = ("queue_wait", "start", "fetch", "resize", "limiter_wait", "edit", "upload", "sign", "settle")
#: Payers who get a credit back, and charges that only an operator can return.
PAYERS = {"user": Channel.B2C, "store": Channel.B2B, "shopper": Channel.B2B}
BY_HAND = {"overage": Channel.B2B, "unmatched": Channel.B2B}
#: Reasons of an automatic pause of the intake.
PAUSES = (*OPENAI_REASONS, "storage_refused")
REFUSALS = (
    "too_large", "not_utf8", "not_json", "not_an_object", "unknown_version", "invalid_field", "wrong_owner", "poison",
)  # fmt: skip

#: The promise is 45 s for 95 of 100.
_WHOLE = (1, 2.5, 5, 10, 15, 20, 25, 30, 35, 40, 45, 60, 90, 120, 180, 300, 600, 1800)
_BULK_WHOLE = (60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600, 16 * 3600, 24 * 3600)
_STEP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600)
_REFUND = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_SETTLED = counter(
    "wearon_generations_total",
    "Sessions settled in the database.",
    ("channel", "outcome", "reason"),
    (
        *((channel, "completed", "none") for channel in Channel),
        *((channel, "failed", reason) for channel, reason in product(Channel, sorted(REASONS))),
    ),
)
#: Versions that have series of their own; `other`: texts that came with messages, and versions of another worker.
_PROMPTS = (*catalogue.known_ids(), "other")
_PROMPT_RESULTS = ("completed", "moderation_blocked", "failed")
_BY_PROMPT = counter(
    "wearon_prompt_generations_total",
    "Sessions that asked for a picture, by the version of their prompt.",
    ("version", "result"),
    product(_PROMPTS, _PROMPT_RESULTS),
)
_SECONDS = histogram(
    "wearon_generation_seconds",
    "From the message's created_at until the outcome was in the database.",
    _WHOLE,
    ("channel", "outcome"),
    product(Channel, OUTCOMES),
)
_STEP_SECONDS = histogram("wearon_generation_step_seconds", "Time of one step.", _STEP, ("step",), STEPS)
_STEP_OF = {step: _STEP_SECONDS.labels(step) for step in STEPS}
_BULK = counter("wearon_bulk_generations_total", "Sessions of bulk that were settled.", ("outcome",), OUTCOMES)
_BULK_SECONDS = histogram(
    "wearon_bulk_generation_seconds",
    "From the created_at of a message of bulk until the outcome was in the database.",
    _BULK_WHOLE,
    ("outcome",),
    OUTCOMES,
)
_REFUNDS = counter(
    "wearon_refunds_total",
    "Credits that went back.",
    ("channel", "payer"),
    ((channel, payer) for payer, channel in PAYERS.items()),
)
_REFUND_SECONDS = histogram(
    "wearon_refund_seconds",
    "From the moment a failure was known until it was in the database with its refund.",
    _REFUND,
    ("channel",),
    tuple(Channel),
)
_REFUNDS_BY_HAND = counter(
    "wearon_refunds_by_hand_total",
    "Failed sessions without a credit to give back.",
    ("channel", "payer"),
    ((channel, payer) for payer, channel in BY_HAND.items()),
)

IN_FLIGHT = gauge("wearon_generations_in_flight", "Generations that run now.")
SLOTS = gauge("wearon_generation_slots", "Generations that may run at once.")
LEASES = gauge("wearon_leases_held", "Sessions that this instance has the lease of.")
BYTES_LIMIT = gauge("wearon_generation_bytes_limit", "Bytes that pictures and answers of all generations may take.")
BYTES_HELD = gauge("wearon_generation_bytes_held", "Bytes of pictures and answers that generations hold or reserve.")
BYTES_WAITING = gauge("wearon_generations_waiting_for_bytes", "Generations that wait until others hold fewer bytes.")
RESTARTED = counter("wearon_generations_restarted_total", "Sessions that started again because their worker vanished.")
RESCUED = counter("wearon_pictures_rescued_total", "Pictures that a vanished worker had stored, delivered by another.")
REQUEUED = counter(
    "wearon_generations_requeued_total",
    "Generations that went back to wait.",
    ("reason",),
    ("rate_limited", "released", "not_started", "preempted", *PAUSES),
)
PROBES = counter(
    "wearon_intake_probes_total",
    "Generations that probed a pause of the intake, by what they showed.",
    ("result",),
    ("recovered", "failed", "unproven"),
)
STUCK = counter(
    "wearon_stuck_sessions_total",
    "Sessions without a worker, ended by the sweep.",
    ("channel", "reason"),
    product(Channel, ("worker_lost", "orphaned", "expired")),
)
POSTPONED = counter("wearon_settlements_postponed_total", "Outcomes that the database did not take at once.")
TAKEN = counter("wearon_messages_taken_total", "Messages taken from the queue.")
REFUSED = counter(
    "wearon_messages_refused_total", "Messages that could not be used and became dead letters.", ("reason",), REFUSALS
)
DROPPED = counter("wearon_messages_dropped_total", "Duplicates, and messages whose session had ended.")
REQUEUED_MESSAGES = counter(
    "wearon_messages_put_back_total", "Messages of dead instances that went back into the queue."
)


@contextmanager
def step(name: str, sums: dict[str, float] | None = None) -> Iterator[None]:
    """Time one step, also when it fails, and add its seconds to the step's in `sums`."""
    began_at = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began_at
        _STEP_OF[name].observe(seconds)
        if sums is not None:
            sums[name] = round(sums.get(name, 0.0) + seconds, 3)


def waited(seconds: float) -> None:
    """Observe how long a message has waited for its generation."""
    _STEP_OF["queue_wait"].observe(max(0.0, seconds))


def settled(outcome: Outcome, refund: str | None) -> None:
    """Count an outcome that the database has taken, with the refund that the database made."""
    now = time.time()
    reason = "none" if outcome.kind == "completed" else outcome.reason
    # An outcome that waited in Redis may be of another version.
    known = reason if reason in {"none", *REASONS} else GenerationError.reason
    _SETTLED.labels(outcome.channel, outcome.kind, known).inc()
    if "model" in outcome.facts:  # before, no prompt is sent
        version = outcome.facts.get("prompt_version")
        result = outcome.reason if outcome.reason == ModerationBlocked.reason else outcome.kind
        _BY_PROMPT.labels(version if version in _PROMPTS else "other", result).inc()
    if outcome.is_bulk:
        _BULK.labels(outcome.kind).inc()
    if outcome.created_at and outcome.is_bulk:
        _BULK_SECONDS.labels(outcome.kind).observe(max(0.0, now - outcome.created_at))
    elif outcome.created_at:
        _SECONDS.labels(outcome.channel, outcome.kind).observe(max(0.0, now - outcome.created_at))
    if refund in PAYERS:
        _REFUNDS.labels(outcome.channel, refund).inc()
        _REFUND_SECONDS.labels(outcome.channel).observe(max(0.0, now - outcome.known_at))
    elif BY_HAND.get(refund or "") == outcome.channel:
        _REFUNDS_BY_HAND.labels(outcome.channel, refund).inc()

"""Every Redis key of the generation half, in one place. A service at the edge (the producer) fixes only QUEUE."""

from uuid import UUID

#: The producers' list: LPUSH there, taken from the right end.
QUEUE = "wearon:tasks:generation"
#: Lanes with waiting messages (sorted set, by whose turn it is), the messages, the turn that was last and the places of
#: the last and the first message, and how many messages at the taking end of QUEUE were requeued since the queue was
#: last sorted into lanes (see `lanes`).
LANES = "wearon:lanes"
LANES_MESSAGES = "wearon:lanes:messages"
LANES_CLOCK = "wearon:lanes:clock"
LANES_RETURNED = "wearon:lanes:returned"
#: Sessions whose message is bulk and has not ended (sorted set, by when it was sorted).
BULK_SESSIONS = "wearon:lanes:bulk"
#: Messages that could not be used, newest first, their size, and how many of the oldest had to make room.
DEAD = f"{QUEUE}:dead"
DEAD_BYTES = f"{QUEUE}:dead:bytes"
DEAD_DROPPED = f"{QUEUE}:dead:dropped"
#: Set of all instances that ever claimed a message and have not been cleared away.
INSTANCES = "wearon:instances"
#: Outcomes that the database does not have yet: hash of session id to JSON.
SETTLEMENTS = "wearon:settlements"
#: Outcomes that the database rejects for good, for an operator: hash of session id to JSON.
REJECTED = "wearon:settlements:rejected"
#: Starts of OpenAI calls in the last minute (sorted set), all instances together.
LIMITER = "wearon:limiter:openai"
#: Shares that regions use while they are cut off from the limiter (hash); in a region's own Redis its calls of that
#: time (sorted set), and its last contact with the limiter (see `limiter_share`).
LIMITER_SHARES = "wearon:limiter:shares"
LIMITER_ALONE = "wearon:limiter:alone"
LIMITER_CONTACT = "wearon:limiter:contact"
#: An operator's pause of the intake: the reason, and since when.
INTAKE_STOPPED = "wearon:intake:stopped"
INTAKE_STOPPED_SINCE = "wearon:intake:stopped:since"
#: The automatic pause of the intake, as JSON, and when earlier pauses of both kinds began and ended.
PAUSE = "wearon:intake:pause"
PAUSES = "wearon:intake:pauses"
#: OpenAI's latest answers, newest first, and the moment of the last one that was no failure.
OPENAI_ANSWERS = "wearon:openai:answers"
OPENAI_SERVED = "wearon:openai:served"
#: Result of the last audit, and who is making the next one.
AUDIT = "wearon:audit"
AUDIT_LOCK = "wearon:audit:lock"
#: Result of the last purge, the place of one that is under way, and its lock.
DATA_LIFE = "wearon:data-life"
DATA_LIFE_PLACE = "wearon:data-life:place"
DATA_LIFE_LOCK = "wearon:data-life:lock"
#: Hashes by prompt version: paused or resumed, and the results for the metrics.
PROMPTS = "wearon:prompts"
PROMPT_RESULTS = "wearon:prompts:results"
#: What calls in flight have reserved: sums, calls and the latest costs (hash), and by when each must have ended.
SPEND_RESERVED = "wearon:spend:reserved"
SPEND_CALLS = "wearon:spend:calls"
#: Held by the one instance that sweeps.
SWEEP_LOCK = "wearon:sweep:lock"
#: Identity of the region whose Redis this is (see `region`).
REGION = "wearon:region"
#: Name of a move of this Redis' messages to another one that has begun and not ended.
MOVE = "wearon:move"


_TYPES = {
    **dict.fromkeys((QUEUE, DEAD, PAUSES, OPENAI_ANSWERS), "list"),
    **dict.fromkeys((SETTLEMENTS, REJECTED, LANES_CLOCK, PROMPTS, PROMPT_RESULTS, SPEND_RESERVED), "hash"),
    LIMITER_SHARES: "hash",
    **dict.fromkeys((DEAD_BYTES, DEAD_DROPPED, INTAKE_STOPPED, INTAKE_STOPPED_SINCE), "string"),
    **dict.fromkeys((PAUSE, OPENAI_SERVED, AUDIT, AUDIT_LOCK, SWEEP_LOCK, LANES_RETURNED), "string"),
    **dict.fromkeys((DATA_LIFE, DATA_LIFE_PLACE, DATA_LIFE_LOCK, REGION, MOVE, LIMITER_CONTACT), "string"),
    INSTANCES: "set",
    **dict.fromkeys((LIMITER, LIMITER_ALONE, LANES, LANES_MESSAGES, BULK_SESSIONS, SPEND_CALLS), "zset"),
}
#: Of keys for one instance or session.
_FAMILIES = {"claimed": "list", "celery": "list", "alive": "string", "lease": "string", "begun": "string"}
_FAMILIES |= {"deaths": "set", "moved": "set", "failures": "hash", "running": "hash", "ended": "hash", "spend": "hash"}
_FAMILIES |= {"bulk": "string", "bulk-pushed": "string", "bulk-cancelled": "string", "bulk-taken": "set"}
_FAMILIES |= {"prompts": "string"}


def type_of(name: str) -> str:
    """Type of one of these keys as Redis names it; empty for every other key."""
    parts = name.split(":")
    family = parts[1] if len(parts) == 3 and parts[0] == "wearon" else ""
    return _TYPES.get(name) or _FAMILIES.get(family, "")


def claimed(instance: str) -> str:
    """List of what this instance took from the queue and has not finished, newest first."""
    return f"wearon:claimed:{instance}"


def running(instance: str) -> str:
    """Hash of lane to how many of its messages are on the claimed list of this instance."""
    return f"wearon:running:{instance}"


def ended(minute: int | str) -> str:
    """Hash of lane to how many of its generations have ended in this minute of the epoch."""
    return f"wearon:ended:{minute}"


def spend(period: str) -> str:
    """Hash of payer or model to what was spent in a day (2026-11-28) or month (2026-11), in millionths of a USD."""
    return f"wearon:spend:{period}"


def alive(instance: str) -> str:
    """Exists while the instance renews it."""
    return f"wearon:alive:{instance}"


def celery_queue(instance: str) -> str:
    """Celery's own list of what this instance's pool will start."""
    return f"wearon:celery:{instance}"


def lease(session_id: UUID | str) -> str:
    """Lease of the process that works on the session."""
    return f"wearon:lease:{session_id}"


def begun(session_id: UUID | str) -> str:
    """Mark of the session's progress (see `marks`), until its worker has ended it in order."""
    return f"wearon:begun:{session_id}"


def deaths(session_id: UUID | str) -> str:
    """Set of the instances that died while they had the session's message."""
    return f"wearon:deaths:{session_id}"


def prompt_lock(experiment: str) -> str:
    """Held by the one instance that watches this experiment; others may have another one."""
    return f"wearon:prompts:{experiment}"


def failures(session_id: UUID | str) -> str:
    """Count of failures of OpenAI for this session while it served others."""
    return f"wearon:failures:{session_id}"


def moved(move: str) -> str:
    """Set of the digests of messages that a move has brought here."""
    return f"wearon:moved:{move}"


def bulk(manifest_id: str) -> str:
    """A manifest of bulk that was submitted, as JSON."""
    return f"wearon:bulk:{manifest_id}"


def bulk_pushed(manifest_id: str) -> str:
    """Bits of the rows whose message was pushed."""
    return f"wearon:bulk-pushed:{manifest_id}"


def bulk_cancelled(manifest_id: str) -> str:
    """Exists once the manifest was cancelled."""
    return f"wearon:bulk-cancelled:{manifest_id}"


def bulk_taken(manifest_id: str) -> str:
    """Set of the sessions whose waiting message the cancellation has taken away."""
    return f"wearon:bulk-taken:{manifest_id}"

"""Every Redis key of the generation half, in one place. The producer fixes only QUEUE."""

from collections.abc import Callable
from uuid import UUID

_TYPES: dict[str, str] = {}
_FAMILIES: dict[str, str] = {}


def names() -> list[str]:
    """All keys but those of an instance, a session and so on."""
    return list(_TYPES)


def type_of(name: str) -> str:
    """Type of one of these keys as Redis names it; empty for every other key."""
    parts = name.split(":")
    family = parts[1] if len(parts) == 3 and parts[0] == "wearon" else ""
    return _TYPES.get(name) or _FAMILIES.get(family, "")


def _key(name: str, kind: str) -> str:
    """A key and its type."""
    _TYPES[name] = kind
    return name


def _family(name: str, kind: str) -> Callable[[UUID | str | int], str]:
    """Keys of one type: one for each instance, session and so on."""
    _FAMILIES[name] = kind
    return lambda item: f"wearon:{name}:{item}"


#: The producers' list: LPUSH there, taken from the right end.
QUEUE = _key("wearon:tasks:generation", "list")
#: Lanes with waiting messages, by whose turn it is (see `lanes`), and these messages.
LANES = _key("wearon:lanes", "zset")
LANES_MESSAGES = _key("wearon:lanes:messages", "zset")
#: The last turn, and the places of the last and the first message.
LANES_CLOCK = _key("wearon:lanes:clock", "hash")
#: Number of messages at the taking end of QUEUE that were requeued since QUEUE was last sorted into lanes.
LANES_RETURNED = _key("wearon:lanes:returned", "string")
#: Sessions whose message is bulk and has not ended (sorted set, by when it was sorted).
BULK_SESSIONS = _key("wearon:lanes:bulk", "zset")
#: Messages that could not be used, newest first, their size, and how many of the oldest had to make room.
DEAD = _key(f"{QUEUE}:dead", "list")
DEAD_BYTES = _key(f"{QUEUE}:dead:bytes", "string")
DEAD_DROPPED = _key(f"{QUEUE}:dead:dropped", "string")
#: Set of all instances that have started and have not been cleared away.
INSTANCES = _key("wearon:instances", "set")
#: Outcomes that the database does not have yet: hash of session id to JSON.
SETTLEMENTS = _key("wearon:settlements", "hash")
#: Outcomes that the database rejects for good, for an operator: hash of session id to JSON.
REJECTED = _key("wearon:settlements:rejected", "hash")
#: Starts of OpenAI calls in the last minute (sorted set), all instances together.
LIMITER = _key("wearon:limiter:openai", "zset")
#: Shares that regions use while they are cut off from the limiter (hash); in a region's own Redis its calls of that
#: time (sorted set), and its last contact with the limiter (see `limiter.share`).
LIMITER_SHARES = _key("wearon:limiter:shares", "hash")
LIMITER_ALONE = _key("wearon:limiter:alone", "zset")
LIMITER_CONTACT = _key("wearon:limiter:contact", "string")
#: An operator's pause of the intake: the reason, and since when.
INTAKE_STOPPED = _key("wearon:intake:stopped", "string")
INTAKE_STOPPED_SINCE = _key("wearon:intake:stopped:since", "string")
#: The automatic pause of the intake, as JSON, and when earlier pauses of both kinds began and ended.
PAUSE = _key("wearon:intake:pause", "string")
PAUSES = _key("wearon:intake:pauses", "list")
#: OpenAI's latest answers, newest first, and the moment of the last answer that was no failure.
OPENAI_ANSWERS = _key("wearon:openai:answers", "list")
OPENAI_SERVED = _key("wearon:openai:served", "string")
#: Result of the last audit, and the lock of the next one.
AUDIT = _key("wearon:audit", "string")
AUDIT_LOCK = _key("wearon:audit:lock", "string")
#: Result of the last purge, the place that an unfinished purge has reached, and the lock.
DATA_LIFE = _key("wearon:data-life", "string")
DATA_LIFE_PLACE = _key("wearon:data-life:place", "string")
DATA_LIFE_LOCK = _key("wearon:data-life:lock", "string")
#: Hashes by prompt version: paused or resumed, and the results for the metrics.
PROMPTS = _key("wearon:prompts", "hash")
PROMPT_RESULTS = _key("wearon:prompts:results", "hash")
#: What calls in flight have reserved: sums, calls and the latest costs (hash), and by when each must have ended.
SPEND_RESERVED = _key("wearon:spend:reserved", "hash")
SPEND_CALLS = _key("wearon:spend:calls", "zset")
#: Held by the one instance that sweeps.
SWEEP_LOCK = _key("wearon:sweep:lock", "string")
#: Identity of the region whose Redis this is (see `region`).
REGION = _key("wearon:region", "string")
#: Name of the unfinished move of this Redis' messages to another Redis.
MOVE = _key("wearon:move", "string")


# By instance

#: What the instance took from the queue and has not finished, newest first.
claimed = _family("claimed", "list")
#: Lane to how many of its messages are on the claimed list.
running = _family("running", "hash")
#: Exists while the instance renews it.
alive = _family("alive", "string")
#: Celery's own list of what the instance's pool will start.
celery_queue = _family("celery", "list")

# By session

#: Lease of the process that works on the session.
lease = _family("lease", "string")
#: Mark of the session's progress (see `marks`), until its worker has ended it in order.
begun = _family("begun", "string")
#: Instances that died while they had the session's message.
deaths = _family("deaths", "set")
#: Count of failures of OpenAI for this session while it served others.
failures = _family("failures", "hash")

# By the id of a manifest of bulk

#: The manifest that was submitted, as JSON.
bulk = _family("bulk", "string")
#: Bits of the rows whose message was pushed.
bulk_pushed = _family("bulk-pushed", "string")
#: Exists once the manifest was cancelled.
bulk_cancelled = _family("bulk-cancelled", "string")
#: Sessions whose waiting message the cancellation has taken away.
bulk_taken = _family("bulk-taken", "set")

# By other names

#: By minute of the epoch: lane to how many of its generations have ended.
ended = _family("ended", "hash")
#: By day (2026-11-28) or month (2026-11): payer or model to what was spent, in millionths of a USD.
spend = _family("spend", "hash")
#: By experiment: held by the one instance that watches the experiment; others may have another one.
prompt_lock = _family("prompts", "string")
#: By move: digests of messages that the move has brought here.
moved = _family("moved", "set")

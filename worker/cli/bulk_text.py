"""The words of `wearon-worker bulk`."""

from worker.generation.bulk.estimate import Estimate
from worker.generation.bulk.manifest import Manifest
from worker.generation.bulk.submission import Result

_DAY_SECONDS = 24 * 3600


def summary(manifest: Manifest, found: Estimate) -> str:
    """The question before a manifest is queued: what it costs, and how long it takes."""
    cost = f"about {found.usd:.2f} USD at OpenAI" if found.usd else "USD unknown: no try-on has ended yet"
    time = f"about {_span(found.seconds)} while no shopper needs anything" if found.seconds else "no worker is running"
    lines = [
        f"manifest {manifest.id}: {found.rows} try-ons for store {manifest.store_id}",
        f"cost: {found.rows} credits of the store's {found.balance} (fewer if queued in part before), {cost}",
        f"time: {time}; each row expires a day after it was queued",
    ]
    if found.balance < found.rows:
        lines.append(f"The credits may end after {found.balance} rows; buy more and submit the file again.")
    if found.seconds and found.seconds > _DAY_SECONDS:
        lines.append("That is more than a day: rows that have not started by then are failed and refunded. Split it.")
    return "\n".join(lines)


def told(manifest: Manifest, result: Result) -> str:
    """The fate of the rows, in one line."""
    total = len(manifest.rows)
    parts = [f"{result.queued} queued", f"{result.before} were queued before"]
    if result.refunded:
        parts.append(f"{result.refunded} were refunded before they were queued: submit those with another --id")
    if result.used:
        parts.append(f"{result.used} have request ids that the store has used: submit those with another --id")
    if result.cancelled:
        parts.append("the manifest was cancelled meanwhile")
    if result.out_of_credit:
        parts.append(f"{total - result.done} not queued: the store has no credit left. Buy more, submit the file again")
    return f"manifest {manifest.id}: {', '.join(parts)} (of {total})"


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"

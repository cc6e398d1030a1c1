"""The sentence that `prompts compare` says of a version beside the control."""

from worker.prompts.results import ENOUGH, Results


def note(results: Results, control: Results | None) -> str:
    """The differences that the data shows with 95 %; too little data shows none."""
    if not results.is_enough:
        return f"too little data: {results.ended} sessions, {ENOUGH} are needed"
    if control is None:
        return ""
    if not control.is_enough:
        return f"too little data of the control: {control.ended} sessions, {ENOUGH} are needed"
    found = []
    if results.blocks_more_than(control):
        found.append("is blocked more often")
    elif control.blocks_more_than(results):
        found.append("is blocked less often")
    if success := results.succeeds_otherwise_than(control):
        found.append("succeeds more often" if success > 0 else "succeeds less often")
    return ", ".join(found) if found else "no difference shown"

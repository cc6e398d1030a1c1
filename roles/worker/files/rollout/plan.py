"""The decision: which colour serves, which release is wanted, and what has to be done. Changes nothing.

The truth lies in three places: the upstream file (which colour serves), the fragment (what each colour is), the engine.
A release has two names. A tag is what people write (`v2`, `v2@sha256:...`): `worker_tag`, and here `asked`, `tag`,
`wanted`. A reference is the image on a host, `repository:tag@digest`: `present`, `reference` and `first`.
"""

import json
import re
import time
from typing import Any

import host
import releases

COLOURS = ("blue", "green")


def plan(job: host.Job) -> dict[str, Any]:
    """Return the state of the host and the decision; `job["image"]` is what releases.fetch has answered."""
    serving, watching = read_upstream(job)
    idle = COLOURS[1 - COLOURS.index(serving)]
    recipes = read_recipes(job)
    states = _states(job)
    state = next(iter(states[serving]), {})
    runs = [one for one in states[serving] if _runs(one)]
    present = recipes.get(f"worker-{serving}", {}).get("image") or state.get("Config", {}).get("Image", "")
    wanted = job["image"].get("wanted") or choose(job, present)
    # Without the image itself (a check, or nothing new is wanted) the present one counts.
    same = not wanted or job["check"] or state.get("Image") == job["image"].get("id")
    keeps = same and (present or job["check"])
    reference = (present or f"{job['repository']}:{job['tag']}") if keeps else job["image"].get("reference", "")
    in_place = not runs or (host.place(job, serving) / "hold").exists()
    differs = _services(job, serving, reference) != {name: recipes[name] for name in recipes if _is_of(name, serving)}
    rolls = in_place or differs or len(runs) < max(len(states[serving]), len(host.wanted(job, serving)))
    # A host where nothing serves begins in the recorded colour, in place: there is nothing to protect.
    new, old = (serving, "") if in_place or not rolls else (idle, serving)
    serves = "no colour" if in_place else f"{serving} with {releases.tag(present)}"
    goal = f", {new} is going to: {reference}" if rolls else " what is wanted"
    return {
        "time": int(time.time()),
        "serving": serving,
        "idle": idle,
        "serving_runs": bool(runs),
        "idle_runs": any(_runs(one) for one in states[idle]),
        # An earlier rollout or removal did not come to its end: see read_upstream; or the old colour left something.
        "watching": watching,
        "unfinished": watching or bool(states[idle]) or bool(host.leftovers(job, idle)),
        "present": present,
        "wanted": wanted,
        "reference": reference,
        "rolls": rolls,
        "new": new,
        "old": old,
        "recipes": recipes,
        "sentence": f"{job['host']}: {serves} serves{goal}",
    }


def read_upstream(job: host.Job) -> tuple[str, bool]:
    """Return the colour that serves, blue on a new host, and True if the record has to be settled.

    The other colour stands behind it, or the host was leaving the service.
    """
    colours = re.findall(r"# *(\w*)$", job["upstream"], re.MULTILINE)
    if job["upstream"].strip() and (not colours or colours[0] not in COLOURS):
        host.refuse(
            f"The upstream file of {job['host']} on the server names no colour but {' or '.join(COLOURS)}: "
            f"{job['upstream'][:200]!r}. Write `# blue` behind the address that serves, and run this again"
        )
    return (colours or COLOURS)[0], any(word in job["upstream"] for word in ("backup", " down;"))


def read_recipes(job: host.Job) -> dict[str, Any]:
    """Return the services of the fragment; it is JSON behind its comment, and was YAML once."""
    text = "\n".join(line for line in host.read(job["fragment"]).splitlines() if not line.startswith("#"))
    if text.strip() and not text.lstrip().startswith("{"):
        flags = ("--no-consistency", "--no-interpolate", "--no-normalize", "--no-path-resolution", "--format", "json")
        files = ("--file", job["fragment"], "--profile", "worker")
        text = host.run("docker", "compose", *files, "config", *flags).stdout or "?"
    try:
        services = json.loads(text or "{}").get("services") or {}
        return {name: dict(services[name]) for name in services if any(_is_of(name, one) for one in COLOURS)}
    except (ValueError, AttributeError, TypeError):
        host.refuse(f"{job['fragment']} is no Compose fragment. Correct or remove it, and run this again")


def write_recipes(job: host.Job, recipes: dict[str, Any]) -> None:
    """Write the fragment: each colour as it was last rolled out."""
    sources = sorted(secret["source"] for recipe in recipes.values() for secret in recipe.get("secrets", []))
    secrets = {source: {"file": f"{job['secrets']}/{source}"} for source in sources}
    text = json.dumps({"services": recipes, "secrets": secrets}, indent=2)
    comment = "# Ansible managed. Which colour serves stands in nginx/upstreams/worker on the server."
    host.write(job["fragment"], f"{comment}\n{text}\n")


def choose(job: host.Job, present: str) -> str:
    """Return the wanted tag, with its digest if that is known; nothing for what serves."""
    known = releases.load(job)
    # The first host chooses for all: the others may be a release behind.
    first = job["first"].removeprefix(f"{job['repository']}:")
    if job["back"]:
        return first or releases.earlier(job, known, present).removeprefix(f"{job['repository']}:")
    if job["asked"] or not present:
        return str(job["asked"] or first or job["tag"])
    # The inventory's tag counts when it has changed since it was last seen: later releases do not stand in it.
    changed = known["inventory_tag"] not in ("", job["tag"]) and releases.tag(present) != job["tag"].split("@")[0]
    return str(job["tag"]) if changed or not present.startswith(f"{job['repository']}:") else ""


def new_recipes(job: host.Job) -> dict[str, Any]:
    """Return the recipes with those of the new colour in the place of what it was."""
    new = job["plan"]["new"]
    kept = {name: one for name, one in job["plan"]["recipes"].items() if not _is_of(name, new)}
    return {**kept, **_services(job, new, job["plan"]["reference"])}


def _services(job: host.Job, colour: str, reference: str) -> dict[str, Any]:
    return {
        f"worker-{one}": {**job["services"][f"worker-{one}"], "image": reference} for one in host.wanted(job, colour)
    }


def _is_of(service: str, colour: str) -> bool:
    return re.fullmatch(rf"worker-{colour}(-\d+)?", service) is not None


def _states(job: host.Job) -> dict[str, list[dict[str, Any]]]:
    """Return the engine's records of the containers of each colour, the first replica first."""
    names = {host.container(job, one): colour for colour in COLOURS for one in host.replicas(job, colour)}
    found = {one["Name"].removeprefix("/"): one for one in host.inspect(*names)}
    return {colour: [found[name] for name in names if names[name] == colour and name in found] for colour in COLOURS}


def _runs(state: dict[str, Any]) -> bool:
    return bool(state.get("State", {}).get("Running"))

"""The releases of this host, newest first: five good ones to go back to, five failures to learn from."""

import json
import time
from pathlib import Path
from typing import Any

import host

KEPT = 5
Release = dict[str, str]


def load(job: host.Job) -> dict[str, Any]:
    """Return the history; a host without a release has an empty one."""
    path = Path(job["folder"], "worker/releases.json")
    try:
        known = {"inventory_tag": "", "releases": [], **json.loads(host.read(path).strip() or "{}")}
        for one in known["releases"]:
            tag(one["reference"]), one["result"], one["time"], one["tag"], one["digest"]
    except (ValueError, TypeError, KeyError):
        host.refuse(f"{path} is no history of releases. Move it away (the way back goes with it), and run this again")
    return known


def tag(reference: str) -> str:
    return reference.partition("@")[0].rpartition(":")[2]


def earlier(job: host.Job, known: dict[str, Any], present: str) -> str:
    """Return the reference of the release to go back to: `job["to"]`, or the last good one that does not serve."""
    good = [one for one in known["releases"] if not _failed(one)]
    if job["to"]:
        by_tag, by_digest = ([one for one in good if one[key] == job["to"]] for key in ("tag", "digest"))
        by_name = [one for one in good if one["reference"] == f"{job['repository']}:{job['to']}"]
        found, asked = by_tag + by_digest + by_name, f"release {job['to']}"
    else:
        found = [one for one in good if one["reference"] != present and one["result"] == "good"]
        asked = "earlier good release"
    if not found:
        host.refuse(
            f"The history knows no {asked} on {job['host']}. ansible-playbook playbooks/releases.yml lists what it "
            "knows; nothing was changed"
        )
    return str(found[0]["reference"])


def record(job: host.Job) -> dict[str, Any]:
    """Write how the planned release went to the top; after a rollout, remove the images that were forgotten."""
    known, plan = load(job), job["plan"]
    entry = _entry(plan["reference"], f"failed: {job['failure']}" if job["failure"] else "good")
    if not job["failure"] and not job["given"]:
        known["inventory_tag"] = job["tag"]
    failed = [one for one in known["releases"] if _failed(one)]
    good = [one for one in known["releases"] if not _failed(one)]
    if _failed(entry):
        failed.insert(0, entry)
    elif not good or good[0]["reference"] != plan["reference"]:
        good = [entry, *_behind(good, plan, job["back"])]
    known["releases"] = sorted(good[:KEPT] + failed[:KEPT], key=lambda one: one["time"], reverse=True)
    text = json.dumps(known, indent=4, sort_keys=True) + "\n"
    changed = host.write(Path(job["folder"], "worker/releases.json"), text)
    if plan["rolls"] and not _failed(entry):
        _prune(job["repository"], {one["image"] for one in good[:KEPT]})
    switched, complete = job["switched"] - plan["time"], int(time.time()) - plan["time"]
    went = f"switched after {switched} s, complete after {complete} s"
    return {"changed": changed, "sentence": f"{job['host']}: {plan['new']} serves {plan['reference']}; {went}"}


def _behind(good: list[Release], plan: dict[str, Any], back: bool) -> list[Release]:
    """Put the release that was left for an earlier one to the top of the rest: it does not count as good any more."""
    rest = [one for one in good if one["reference"] != plan["reference"]]
    left = [{**one, "result": "rolled back"} for one in rest if back and one["reference"] == plan["present"]]
    return left + [one for one in rest if not back or one["reference"] != plan["present"]]


def _entry(reference: str, result: str) -> Release:
    image = (host.inspect(reference) or [{}])[0]
    labels = (image.get("Config") or {}).get("Labels") or {}
    return {
        "reference": reference,
        "tag": tag(reference),
        "digest": reference.partition("@")[2],
        "image": image.get("Id", ""),
        "commit": labels.get("org.opencontainers.image.revision", "unknown"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time())),
        "result": result,
    }


def _failed(one: Release) -> bool:
    return one["result"].startswith("failed")


def _prune(repository: str, keep: set[str]) -> None:
    used = host.run("docker", "ps", "--all", "--quiet").stdout.split()
    keep |= {one["Image"] for one in (host.inspect(*used) if used else [])}
    for image in set(host.run("docker", "images", "--quiet", "--no-trunc", repository).stdout.split()) - keep:
        host.run("docker", "image", "rm", "--force", image)


if __name__ == "__main__":
    host.answer({"record": record})

"""The wanted image, pinned; and the history of the host: five good releases, five failures."""

import json
import time
from pathlib import Path
from typing import Any

import host
import signature

KEPT = 5
Release = dict[str, str]


def fetch(job: host.Job) -> dict[str, str]:
    """Pull the wanted image unless its digest is here. Return its reference, which means this image for ever."""
    wanted = job["plan"]["wanted"]
    name = f"{job['repository']}:{wanted}"
    if "@" not in wanted or host.run("docker", "image", "inspect", name).returncode:
        _check_room(job)
        pull = host.run("docker", "pull", "--quiet", name, seconds=1800)
        if pull.returncode:
            host.refuse(f"{name} cannot be pulled on {job['host']}: {pull.stderr}. Nothing was changed")
    image = host.inspect(name)[0]
    digests = [one.partition("@")[2] for one in image["RepoDigests"] or [] if one.startswith(f"{job['repository']}@")]
    plain, _, asked = wanted.partition("@")
    digest = asked if asked in digests else "".join(digests[:1])
    reference = f"{job['repository']}:{plain}" + (f"@{digest}" if digest else "")
    # A rollback takes an image that was checked when it came, and needs no registry.
    if not job["back"]:
        signature.verify(job, reference)
    return {"wanted": wanted, "id": image["Id"], "reference": reference}


def load(job: host.Job) -> dict[str, Any]:
    """Return the history; a host without a release has an empty one."""
    path = _path(job)
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
    """Return the release to go back to: the requested release, or the last good release that does not serve."""
    good, asked = [one for one in known["releases"] if not _failed(one)], job["asked"]
    if asked:
        name = f"{job['repository']}:{asked}"
        found = [one for one in good if asked in (one["tag"], one["digest"]) or one["reference"] == name]
    else:
        found = [one for one in good if one["reference"] != present and one["result"] == "good"]
    if not found:
        host.refuse(
            f"The history knows no {f'release {asked}' if asked else 'earlier good release'} on {job['host']}. "
            "ansible-playbook playbooks/releases.yml lists what it knows; nothing was changed"
        )
    return str(found[0]["reference"])


def record(job: host.Job) -> dict[str, Any]:
    """Write the result of the rollout to the top; remove the images of releases that are forgotten."""
    known, plan = load(job), job["plan"]
    entry = _entry(plan["reference"], f"failed: {job['failure']}" if job["failure"] else "good")
    if not job["failure"] and (job["back"] or not job["asked"]):
        known["inventory_tag"] = job["tag"]
    failed = [one for one in known["releases"] if _failed(one)]
    good = [one for one in known["releases"] if not _failed(one)]
    if _failed(entry):
        failed.insert(0, entry)
    elif not good or good[0]["reference"] != plan["reference"]:
        for one in good:
            if job["back"] and one["reference"] == plan["present"]:
                one["result"] = "rolled back"
        good = [entry, *(one for one in good if one["reference"] != plan["reference"])]
    known["releases"] = sorted(good[:KEPT] + failed[:KEPT], key=lambda one: one["time"], reverse=True)
    changed = host.write(_path(job), json.dumps(known, indent=4, sort_keys=True) + "\n")
    if plan["rolls"] and not _failed(entry):
        _prune(job["repository"], {one["image"] for one in good[:KEPT]})
    switched, complete = job["switched"] - plan["time"], int(time.time()) - plan["time"]
    went = f"switched after {switched} s, complete after {complete} s"
    return {"changed": changed, "sentence": f"{job['host']}: {plan['new']} serves {plan['reference']}; {went}"}


def _path(job: host.Job) -> Path:
    return Path(job["folder"], "worker/releases.json")


def _check_room(job: host.Job) -> None:
    root = host.run("docker", "info", "--format", "{{.DockerRootDir}}").stdout.strip()
    free = host.run("df", "--output=avail", "--block-size=1M", root).stdout.split()[-1:]
    if not free or not free[0].isdigit():
        host.refuse(f"the engine on {job['host']} does not say where it keeps its images. Nothing was changed")
    if int(free[0]) < job["free_megabytes"]:
        host.refuse(
            f"Only {free[0]} MB are free where Docker keeps its images on {job['host']}; a rollout needs "
            f"{job['free_megabytes']} (worker_free_disk_megabytes). "
            "`docker image prune --all --filter label!=wearon.release` there makes room. Nothing was changed"
        )


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

"""Pin each service's image to the digest that the host got first: a tag that moves in its registry changes no service.

Runs on the host with a job (JSON) on standard input. The record is a Compose file for each fragment, joined with the
fragment. Another tag in the inventory is another image. Prints the fragments that have pins, and the pins that are new.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

Images = dict[str, str]
_HUB = "index.docker.io/", "docker.io/", "library/"


def main(job: dict[str, Any]) -> dict[str, list[str]]:
    """Write the pins of all fragments; in a check, only list them."""
    folder = Path(job["folder"])
    if job["check"]:
        return {"pinned": sorted(path.stem for path in folder.glob("*.yml")), "new": []}
    known = recorded(folder)
    wanted = {
        fragment: {service: pin(image, known, follow=job["follow"]) for service, image in images.items()}
        for fragment, images in job["images"].items()
    }
    folder.mkdir(mode=0o755, exist_ok=True)
    new = {one for name, pins in wanted.items() if write(folder / f"{name}.yml", pins) for one in pins.values()}
    for path in folder.glob("*.yml"):
        if path.stem not in wanted:
            path.unlink()
    return {"pinned": sorted(wanted), "new": sorted(new)}


def recorded(folder: Path) -> Images:
    """Return the pinned reference of each `name:tag`. A record that cannot be read is made anew."""
    found: Images = {}
    for path in folder.glob("*.yml"):
        try:
            images = [one["image"] for one in json.loads(path.read_text())["services"].values()]
            found |= {image.partition("@")[0]: image for image in images if "@" in image}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def pin(image: str, known: Images, *, follow: bool) -> str:
    """Bring the image and return its reference with the digest. On this host the plain tag means the same image."""
    reference = image if follow else known.get(image, image)
    found = None if follow else inspect(reference)
    if found is None:
        pull(reference)
        found = inspect(reference) or {}
    if "@" in reference:
        if (inspect(image) or {}).get("Id") != found["Id"]:
            docker("tag", found["Id"], image)
        return reference
    name = engine_name(image.rpartition(":")[0])
    digests = [one.partition("@")[2] for one in found.get("RepoDigests") or [] if one.startswith(f"{name}@")]
    # An image that was built on the host has none.
    known[image] = f"{image}@{digests[0]}" if digests else image
    return known[image]


def engine_name(repository: str) -> str:
    for prefix in _HUB:
        repository = repository.removeprefix(prefix)
    return repository


def pull(reference: str) -> None:
    done = docker("pull", "--quiet", reference)
    if done.returncode:
        refuse(f"{reference} cannot be pulled: {done.stderr.strip()[-500:]}. No service was changed")


def inspect(reference: str) -> dict[str, Any] | None:
    found = json.loads(docker("image", "inspect", reference).stdout or "[]")
    return dict(found[0]) if found else None


def write(path: Path, pins: Images) -> bool:
    """Replace a record in one step. Return True if its content is new."""
    text = json.dumps({"services": {name: {"image": image} for name, image in pins.items()}}, indent=2) + "\n"
    if path.exists() and path.read_text() == text:
        return False
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)
    return True


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False, timeout=1800)  # noqa: S603, S607


def refuse(sentence: str) -> NoReturn:
    raise SystemExit(" ".join(sentence.split()))


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))

"""The wanted image, fetched and pinned: its reference means this image, whatever its tag means later."""

import host


def fetch(job: host.Job) -> dict[str, str]:
    """Pull the image unless its digest is here. Return it with its digest; refuse before anything is changed."""
    wanted = job["plan"]["wanted"]
    name = f"{job['repository']}:{wanted}"
    _check_room(job)
    if "@" not in wanted or host.run("docker", "image", "inspect", name).returncode:
        pull = host.run("docker", "pull", "--quiet", name, seconds=1800)
        if pull.returncode:
            host.refuse(f"{name} cannot be pulled on {job['host']}: {pull.stderr}. Nothing was changed")
    image = host.inspect(name)[0]
    digests = [one.partition("@")[2] for one in image["RepoDigests"] or [] if one.startswith(f"{job['repository']}@")]
    tag, _, asked = wanted.partition("@")
    digest = asked if asked in digests else "".join(digests[:1])
    return {
        "wanted": wanted,
        "id": image["Id"],
        "reference": f"{job['repository']}:{tag}" + (f"@{digest}" if digest else ""),
    }


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


if __name__ == "__main__":
    host.answer({"fetch": fetch})

"""The signature of the wanted image: checked by cosign on the host, before the image runs."""

import host

_LOGIN = "/root/.docker"


def verify(job: host.Job, reference: str) -> None:
    """Refuse an image without each signature that the inventory asks for."""
    name, _, digest = reference.partition("@")
    asked = job["cosign"]
    checks: dict[str, tuple[str, ...]] = {"key": ("verify", "--key", "env://COSIGN_KEY")} if asked["key"] else {}
    if asked["identity"]:
        signer = ("--certificate-identity-regexp", asked["identity"], "--certificate-oidc-issuer", asked["issuer"])
        checks["identity"] = ("verify-attestation", "--type", "slsaprovenance1", *signer)
    if checks and not digest:
        host.refuse(f"{name} has no digest, so its signature cannot be checked. Nothing was changed")
    for what, arguments in checks.items():
        login = ("--volume", f"{_LOGIN}:{_LOGIN}:ro", "--env", f"DOCKER_CONFIG={_LOGIN}", "--env", "HOME=/tmp")
        run = ("docker", "run", "--rm", "--user", "0", "--tmpfs", "/tmp", *login, "--env", f"COSIGN_KEY={asked['key']}")  # noqa: S108
        found = host.run(*run, asked["image"], *arguments, f"{job['repository']}@{digest}", seconds=300)
        if found.returncode:
            where = f"{name} on {job['host']} has no signature of worker_cosign_{what}"
            host.refuse(f"{where}: {found.stderr[-300:]}. Nothing was changed")

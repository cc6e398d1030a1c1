"""Commands inside the bridge's container, for its health check and for playbooks/pair_whatsapp.yml."""

import json
import sys
import urllib.error
import urllib.request


def alive(port: int) -> int:
    """Exit with 0 as long as the bridge serves, linked or not."""
    return 0 if ask(port, "/alive")[0] == 200 else 1


def pair(port: int, secret: str, arguments: list[str]) -> int:
    """Begin a pairing (by code with a phone number), or show it with --show; prints JSON or the refusal."""
    body = None if arguments == ["--show"] else json.dumps({"phone": arguments[0] if arguments else ""}).encode()
    status, text = ask(port, "/pair", secret, body)
    print(text, file=sys.stdout if status == 200 else sys.stderr)
    return 0 if status == 200 else 1


def ask(port: int, path: str, secret: str = "", body: bytes | None = None) -> tuple[int, str]:
    """Send one request to the running bridge."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=body, headers={"Authorization": f"Bearer {secret}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, f"The bridge does not answer: {error}"

"""`python -m bridge run` serves; `pair` and `alive` ask the running bridge, from inside its container."""

import os
import signal
import sys
import threading
from pathlib import Path

from bridge import commands
from bridge.delivery import Deliveries
from bridge.link import Link
from bridge.logs import log
from bridge.server import serve

DATA = Path(os.environ.get("BRIDGE_DATA", "/app/data"))
PORT = int(os.environ.get("BRIDGE_PORT", "8080"))
SECRET_FILE = Path(os.environ.get("WEBHOOK_SECRET_FILE", "/run/secrets/webhook_secret"))


def main(arguments: list[str]) -> int:
    """Run one command; the exit status."""
    os.umask(0o077)  # the session is a full login of the account
    match arguments:
        case ["run"]:
            return run(read_secret())
        case ["pair", *rest]:
            return commands.pair(PORT, read_secret(), rest)
        case ["alive"]:
            return commands.alive(PORT)
        case _:
            print("usage: python -m bridge run | pair [+PHONE] | pair --show | alive", file=sys.stderr)
            return 2


def read_secret() -> str:
    """The secret that Grafana sends; the bridge does not start without: every client could send."""
    secret = os.environ.get("WEBHOOK_SECRET", "")
    if not secret and SECRET_FILE.is_file():
        try:
            secret = SECRET_FILE.read_text().strip()
        except (OSError, ValueError) as error:
            sys.exit(f"{SECRET_FILE} cannot be read ({type(error).__name__}): let the bridge's user read it, as text.")
    if not secret:
        sys.exit(
            f"The secret is empty: put it into {SECRET_FILE} or WEBHOOK_SECRET (`openssl rand -hex 32` makes one)."
        )
    return secret


def run(secret: str) -> int:
    """Serve until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    deliveries = Deliveries(DATA)
    link = Link(DATA, deliveries)
    server = serve(PORT, secret, link, deliveries)
    log("bridge_started", port=server.server_port)
    link.start()
    ended.wait()
    server.shutdown()  # requests in flight are answered first
    server.server_close()
    link.stop()
    log("bridge_stopped")
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # the library's threads do not end by themselves

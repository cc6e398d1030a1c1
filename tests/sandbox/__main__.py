"""`python -m tests.sandbox`: start everything, print the addresses, run until Ctrl-C or SIGTERM."""

import argparse
import json
import shlex
import signal
import sys
from typing import NoReturn

from tests.sandbox.sandbox import Sandbox


def main() -> None:
    """Start, print, wait."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sandbox",
        description="The surrounding world of the worker on 127.0.0.1: Valkey, PostgreSQL, Supabase, OpenAI, photos.",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON: addresses and environment")
    parser.add_argument("--latency", type=float, default=0, metavar="SECONDS", help="how long a picture takes")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with Sandbox() as sandbox:
            sandbox.openai.set(latency=options.latency)
            print(_json(sandbox) if options.json else _text(sandbox), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass


def _json(sandbox: Sandbox) -> str:
    return json.dumps({**_addresses(sandbox), "pids": sandbox.pids(), "env": sandbox.env()})


def _text(sandbox: Sandbox) -> str:
    addresses = _addresses(sandbox)
    width = max(map(len, addresses))
    fault = shlex.quote(json.dumps({"fault": {"kind": "rate_limited", "times": 1}}))
    return "\n".join(
        [
            *(f"{name:<{width}}  {value}" for name, value in addresses.items()),
            "",
            "The worker's environment:",
            *(f"  export {name}={shlex.quote(value)}" for name, value in sandbox.env().items()),
            "",
            "Make the next picture fail:",
            f"  curl {sandbox.openai.origin}/__control -d {fault}",
            "",
            "Ctrl-C stops everything.",
        ]
    )


def _addresses(sandbox: Sandbox) -> dict[str, str]:
    return {
        "redis_url": sandbox.redis_url,
        "database_url": sandbox.database_url,
        "supabase_url": sandbox.supabase_url,
        "service_key": sandbox.service_key,
        "openai_url": sandbox.openai_url,
        "photos_url": sandbox.photos_url,
    }


def _terminated(*_: object) -> NoReturn:
    sys.exit(0)  # unwinds, so that everything is stopped in order


if __name__ == "__main__":
    main()

"""`make demo`: the real worker in the sandbox turns four queued try-ons into pictures while you watch."""

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from tests.demo.show import Demo
from tests.integration.worker_process import ROOT, WorkerProcess
from tests.sandbox import Sandbox

#: The session of the printed LPUSH line waits that long for its message.
KEEP_SECONDS = 86400


def main() -> int:
    """Start the sandbox and the worker, show the demo, stop both."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards")
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="folder for the pictures")
    parser.add_argument("--latency", type=float, default=4, metavar="SECONDS", help="how long OpenAI takes")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    console = Console()
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_DFL:  # ignored under nohup
            signal.signal(number, _terminated)
    with ExitStack() as running:
        try:
            with console.status("starting Valkey, PostgreSQL, Supabase, OpenAI and a photo host on loopback"):
                sandbox = running.enter_context(Sandbox())
        except KeyboardInterrupt:
            return 130
        sandbox.openai.set(latency={"median": options.latency, "sigma": 0.2})
        patience = {"ORPHAN_GRACE_SECONDS": str(KEEP_SECONDS), "MESSAGE_TTL_SECONDS": str(KEEP_SECONDS)}
        worker = WorkerProcess(sandbox, **(patience if options.keep else {}))
        try:
            with console.status("starting the worker"):
                worker.start()
            demo = Demo(sandbox, worker, console, options.output)
            fine = demo.run()
            if options.keep:
                demo.keep()
            console.print("\n[green]All as it should be.[/]" if fine else "\n[red]Something is wrong, see above.[/]")
            return 0 if fine else 1
        except KeyboardInterrupt:
            return 0
        finally:
            if worker.process.poll() is None:
                worker.stop()


def _terminated(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a closed terminal sends SIGHUP twice
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

"""Four try-ons from the queue to the picture, shown with their credits, a size estimate and the audit."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tests.integration.worker_process import ENDED, ROOT, WorkerProcess
from tests.sandbox.client import HTTP
from tests.sandbox.processes import free_port, spawn
from tests.sandbox.producer import QUEUE, Queued
from tests.sandbox.sandbox import Sandbox

FORBIDDEN = "a picture that our content check refuses"
STYLES = {"queued": "yellow", "processing": "cyan", "completed": "green", "failed": "red"}
TIMEOUT_SECONDS = 60


class Demo:
    """One run of the demo."""

    def __init__(self, sandbox: Sandbox, worker: WorkerProcess, console: Console, output: Path) -> None:
        self.sandbox, self.worker, self.console, self.output = sandbox, worker, console, output
        self.user, self.store = sandbox.producer.user(balance=5), sandbox.producer.store(balance=20)
        self.shopper = sandbox.producer.shopper(self.store, "anna@example.com", balance=3)
        self.started = time.monotonic()
        self.seen: dict[str, list[tuple[str, float]]] = {}

    def run(self) -> bool:
        """Show everything. Return False if a session did not end as it should."""
        before = self.balances()
        sessions = self.queue()
        self.follow(sessions)
        self.console.print(self.ledger(before))
        fine = [self.show_result(name, queued) for name, queued in sessions.items()]
        fine += [self.estimate(), self.audit()]
        return all(fine)

    def queue(self) -> dict[str, Queued]:
        """Four try-ons: three payers, and a prompt that moderation blocks."""
        photo, produce = self.sandbox.photos.url, self.sandbox.producer
        self.sandbox.openai.fault("moderation_blocked", contains=FORBIDDEN)
        return {
            "b2c, the user pays": produce.b2c(self.user, images=[photo("person.jpg"), photo("garment.jpg")]),
            "b2b, the store pays": produce.b2b(self.store, images=[photo("person2.jpg"), photo("garment2.jpg")]),
            "b2b, a shopper pays": produce.b2b(
                self.store,
                paid_by="shopper",
                shopper_email=self.shopper,
                images=[photo("person3.jpg"), photo("garment.jpg"), photo("hat.jpg")],
            ),
            "b2c, moderation blocks": produce.b2c(self.user, prompt=FORBIDDEN),
        }

    def follow(self, sessions: dict[str, Queued]) -> None:
        """Print every change of status as it happens: a table that grows, or a line each where there is no terminal."""
        self.started = time.monotonic()
        with Live(console=self.console, refresh_per_second=10, transient=False) as live:
            while time.monotonic() - self.started < TIMEOUT_SECONDS:
                for name, queued in sessions.items():
                    self.note(name, queued, print_line=not self.console.is_terminal)
                if self.console.is_terminal:
                    live.update(self.progress(sessions))
                if all(self.seen[name][-1][0] in ENDED for name in sessions):
                    return
                time.sleep(0.05)

    def note(self, name: str, queued: Queued, *, print_line: bool) -> None:
        history = self.seen.setdefault(name, [])
        for status in self.sandbox.statuses(queued.session_id)[len(history) :]:
            history.append((status, time.monotonic() - self.started))
            if print_line:
                self.console.print(f"{history[-1][1]:5.1f} s  {name:<24} {status}")

    def progress(self, sessions: dict[str, Queued]) -> Table:
        table = Table("session", "for", "status", "seconds", title="Four try-ons", title_justify="left")
        for name, queued in sessions.items():
            history = self.seen.get(name, [])
            steps = " → ".join(f"[{STYLES[status]}]{status}[/]" for status, _ in history)
            table.add_row(queued.session_id[:8], name, steps, f"{history[-1][1]:.1f}" if history else "")
        return table

    def balances(self) -> dict[str, int]:
        balance = self.sandbox.balance
        return {
            "user": balance(self.user),
            "store": balance(self.store),
            f"shopper {self.shopper}": balance(self.store, self.shopper),
        }

    def ledger(self, before: dict[str, int]) -> Group:
        """Balances before and after, and the rows between."""
        balances = Table("balance of", "before", "after", title="Credits", title_justify="left")
        for owner, credits in self.balances().items():
            balances.add_row(owner, str(before[owner]), str(credits))
        rows = Table("ledger", "amount", "description", title_justify="left")
        for owner in (self.user, self.store):
            for row in self.sandbox.ledger(owner):
                if row["type"] not in ("signup_bonus", "purchase"):
                    rows.add_row(row["type"], f"{row['amount']:+}", row["description"])
        return Group(balances, rows)

    def show_result(self, name: str, queued: Queued) -> bool:
        """Print the place of the picture, or the reason why there is none."""
        row = self.sandbox.session(queued.channel, queued.session_id)
        if row["status"] != "completed":
            self.console.print(f"\n[bold]{name}[/]: {row['status']}, “{row['error_message']}”")
            return bool(row["status"] == "failed" and name.endswith("blocks"))
        (path,) = [path for path in self.sandbox.objects() if queued.session_id in path]
        file = self.output / f"{queued.channel}-{queued.session_id[:8]}.jpg"
        file.write_bytes(HTTP.get(row["generated_image_url"]).raise_for_status().content)
        seconds, cost = row["processing_time_ms"] / 1000, row["estimated_cost_usd"]
        self.console.print(f"\n[bold]{name}[/]: {row['status']} in {seconds:.1f} s for {cost} USD")
        lines = f"  stored  {path}\n  saved   {file}\n  signed  {row['generated_image_url']}"
        self.console.print(lines, soft_wrap=True, highlight=False)
        return not name.endswith("blocks")

    def estimate(self) -> bool:
        """Ask for the size of the first person."""
        answer = HTTP.post(f"{self.worker.url}/estimate-body", json=self.size_request(), timeout=10)
        self.console.print("\n[bold]Which size?[/] POST /estimate-body")
        self.console.print_json(answer.text)
        return answer.status_code == 200

    def size_request(self) -> dict[str, object]:
        return {"image_url": self.sandbox.photos.url("body.jpg"), "height_cm": 173.4}

    def audit(self) -> bool:
        """Run the audit of the ledgers."""
        command = [sys.executable, "-m", "worker", "audit"]
        self.console.print("\n[bold]wearon-worker audit[/]")
        return subprocess.run(command, cwd=ROOT, env=self.worker.environment, check=False).returncode == 0

    def serve_page(self) -> str:
        """Start the page to try the size estimates with. Return its address."""
        port = free_port()
        command = [sys.executable, "-m", "tests.try_page", "--port", str(port)]
        spawn(command, log=self.output / "try-page.log", cwd=ROOT)
        return f"http://127.0.0.1:{port}/try"

    def keep(self) -> None:
        """Leave everything running, with lines to try."""
        photo = self.sandbox.photos.url
        message = json.dumps(self.sandbox.producer.b2c(self.user, push=False).message)
        queue = f"redis-cli -u {self.sandbox.redis_url} LPUSH {QUEUE} {shlex.quote(message)}"
        size = shlex.quote(json.dumps(self.size_request()))
        self.console.print(
            f"\n[bold]Everything keeps running[/] until Ctrl-C.\n\nsizes     {self.serve_page()}\n"
            f"worker    {self.worker.url}  (log: {self.worker.log_path})\nSupabase  {self.sandbox.supabase_url}\n"
            f"OpenAI    {self.sandbox.openai_url}\nphotos    {photo('person.jpg')}\n"
            f"Redis     {self.sandbox.redis_url}\nPostgres  {self.sandbox.database_url}\n\n"
            f"curl {self.worker.url}/health\n"
            f"curl {self.worker.url}/estimate-body -H 'Content-Type: application/json' -d {size}\n{queue}",
            soft_wrap=True,
            highlight=False,
        )
        terminal = sys.stdout.isatty()
        while self.worker.process.poll() is None:
            if terminal and not sys.stdout.isatty():  # it was closed, and only make was told, which waits for us
                raise KeyboardInterrupt
            time.sleep(0.5)

"""A running stack whose `site.yml` is killed at random tasks: `python -m tests.testbed.killed KILLS INVENTORY...`.

Each run changes settings of the worker, of Redis and of nginx, and is killed (-9, all its processes) at a random task.
Another playbook tries the lock meanwhile and has to be refused. The next run takes the lock over. Customers ask and
queue try-ons all the time. The last run comes to its end; then each try-on must be settled and paid for once.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import testinfra

from tests.molecule.hosts import ROOT, STATE, StackRedis, docker
from tests.sandbox.database import Database
from tests.sandbox.producer import Producer
from tests.sandbox.records import Records

INVENTORIES = [f"--inventory={inventory}" for inventory in sys.argv[2:]]
#: The tasks of a run that changes all of this, counted once; a run of a stack that follows has about as many.
TASKS = 300


def settings(number: int) -> str:
    """Return settings that differ from those of the run before."""
    return json.dumps(
        {
            "worker_log_level": ("INFO", "WARNING")[number % 2],
            "redis_maxclients": 900 + number,
            "nginx_connections_per_client": 50 + number,
            "prometheus_retention_time": f"{30 + number}d",
        }
    )


def play(name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a playbook in a process group of its own."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *INVENTORIES, f"playbooks/{name}.yml"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def killed(number: int, tasks: int) -> tuple[str, float]:
    """Run site.yml until so many tasks have begun; return the name of the last one and the seconds that it has run."""
    run, task, begun = play("site", "-e", settings(number)), "", time.monotonic()
    assert run.stdout
    for line in run.stdout:
        if line.startswith("TASK ["):
            tasks, task = tasks - 1, line[6:].partition("]")[0]
        if tasks <= 0:
            break
    time.sleep(random.random())
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return task, time.monotonic() - begun


def refused(name: str, *arguments: str) -> str:
    """Return the sentence by which the deploy lock refuses a playbook."""
    run = play(name, *arguments)
    words, _ = run.communicate(timeout=300)
    if run.returncode == 0 or "Locked since" not in words:
        sys.exit(f"{name} was not refused:\n{words[-3000:]}")
    return "Locked since" + words.split("Locked since")[1].partition("add -e break_lock=true")[0]


class Customers:
    """Requests through nginx, and try-ons, until the end."""

    def __init__(self, host: str, name: str) -> None:
        self._sandbox = json.loads((STATE / "sandbox.json").read_text())
        self._name, self._host = name, testinfra.get_host(f"docker://{host}")
        self._end = threading.Event()
        self.answers: Counter[str] = Counter()
        self.records = Records()
        self.queued: list[tuple[str, str, str]] = []
        self.lost_pushes = 0
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._queue)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        ask = ["exec", "testbed-neighbour", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20"]
        while not self._end.wait(0.3):
            url = f"https://{self._name}/health"
            self.answers[docker(*ask, "--cacert", "/state/pebble-root.crt", url, check=False)] += 1

    def _queue(self) -> None:
        photos = [f"{self._sandbox['photos_url']}/{name}.jpg" for name in ("person", "garment")]
        with Database(self._sandbox["database_url"]) as database:
            producer = Producer(database, StackRedis(self._host), photos)  # type: ignore[arg-type]
            while not self._end.wait(2.0):
                make = producer.b2b if len(self.queued) % 2 else producer.b2c
                one = make(push=False)
                while not self._pushed(producer, one.message):
                    self.lost_pushes += 1
                    time.sleep(1)
                self.queued.append((one.channel, one.session_id, one.owner_id))

    def _pushed(self, producer: Producer, message: dict[str, object]) -> bool:
        """A producer repeats a push that Redis has not confirmed, as the shop does."""
        try:
            producer.push(message)
        except AssertionError:
            return False
        return True

    def end(self) -> list[str]:
        """Return each try-on that was not completed, was refunded, or moved the balance more than once."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        wrong = []
        with Database(self._sandbox["database_url"]) as database:
            self.records.database = database
            for channel, session_id, owner_id in self.queued:
                row = self.records.settled(channel, session_id, timeout=180)
                refunds = [one for one in self.records.ledger(owner_id) if one["type"] == "refund"]
                if row["status"] != "completed" or refunds:
                    wrong.append(f"{session_id}: {row['status']} {row['error_message']}, {len(refunds)} refunds")
        return wrong


if __name__ == "__main__":
    seed = int(os.environ.get("SEED", time.time()))
    random.seed(seed)
    customers = Customers("alpha", "api.shop.test")
    print(f"SEED={seed}", flush=True)
    for kill in range(int(sys.argv[1])):
        at, seconds = killed(kill, random.randint(15, TASKS))
        print(f"killed at {at!r} after {seconds:.0f} s", flush=True)
    begun = time.monotonic()
    final = play("site", "-e", settings(int(sys.argv[1])))
    assert final.stdout
    while "Take the deploy lock from a play" not in final.stdout.readline():
        pass
    time.sleep(3)
    drain = threading.Thread(target=final.stdout.read)
    drain.start()
    print(refused("site"), refused("update_worker", "-e", "worker_tag=test"), sep="\n", flush=True)
    code = final.wait()
    drain.join()
    print(f"the last run: exit code {code} after {time.monotonic() - begun:.0f} s", flush=True)
    wrong = customers.end()
    print(f"{len(customers.queued)} try-ons, wrong: {wrong or 'none'}; pushes repeated: {customers.lost_pushes}")
    print(f"answers: {dict(customers.answers)}")
    sys.exit(bool(code or wrong))

"""Whatever a process writes becomes a JSON line, and what slips into a text is not shown."""

import json
import subprocess
import sys
from typing import Any

import pytest

KEY = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl"


def written(code: str) -> list[dict[str, Any]]:
    """The lines of a process that has set its logging up and then does this."""
    script = f"import time; from worker import logs; logs.configure('INFO', 'supervisor'); {code}"
    # What others print takes a way of its own; a process that ends at once is not waited for.
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("logs.get_logger('x').info('noun_verb', value=1)", "noun_verb"),
        ("import logging; logging.getLogger('lib').warning('text %s', 1)", "text 1"),
        ("import warnings; warnings.warn('odd')", "odd"),
        ("print('text')", "foreign_output"),
        ("import os; os.write(2, b'native\\n'); os.write(2, b'')", "foreign_output"),
        ("import os; os.system('echo child >&2')", "foreign_output"),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", "process_crashed"),
        ("1 / 0", "process_crashed"),
    ],
)
def test_whoever_writes_it_becomes_one_json_line(code: str, event: str) -> None:
    ends_itself = code == "1 / 0"
    (line,) = written(code if ends_itself else f"{code}; time.sleep(0.5)")
    assert event in line["event"]
    assert line.keys() >= {"timestamp", "level", "event", "service", "part"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://x.example/a/b.jpg?token=abc&x=1 failed", "GET https://x.example/a/b.jpg?*** failed"),
        ("redis://:pass@redis:6379/0 is away", "redis://***@redis:6379/0 is away"),
        ("https://user:pass@host/a", "https://***@host/a"),
        (f"Bearer {KEY}", "Bearer ***"),
        ("key sk-proj-abc_DEF-123456", "key ***"),
        ("key sb_secret_N7UND0Ugj_-x1", "key ***"),
        ("shopper some.one+x@shop.example.com paid", "shopper *** paid"),
        ("line\nsk-proj-abc_DEF-123456", "line\n***"),
        ("line\nsome.one@shop.example.com", "line\n***"),
        ("\u00e9 \u2028some.one@shop.example.com", "\u00e9 \u2028***"),
        ("why? because", "why? because"),
        ("worker@host and a task-id", "worker@host and a task-id"),
    ],
)
def test_secrets_in_the_texts_of_others_are_not_shown(text: str, shown: str) -> None:
    code = f"logs.get_logger('x').info('event', error={text!r}); "
    code += f"\ntry: raise ValueError({text!r})\nexcept ValueError: logs.get_logger('x').exception('crash')"
    plain, crash = written(code)
    assert plain["error"] == shown
    assert crash["exception"].endswith(f"ValueError: {shown}")


@pytest.mark.parametrize("letter", ["x", "\u00e4"])
def test_line_is_shorter_than_what_the_engine_splits(letter: str) -> None:
    """At 16 KB; the pieces would have no level. Beginning and end of a value stay, and no half of a secret."""
    code = f"text = {letter!r} * 990 + ' {KEY} ' + {letter!r} * 30000 + 'end'; "
    (line,) = written(code + "logs.get_logger('x').error('noun_verb', text=text, list=[text] * 9, number=7)")
    assert len(json.dumps(line)) < 16384
    assert (line["level"], line["event"]) == ("error", "noun_verb")
    assert line["text"].startswith(letter * 9)
    assert line["text"].endswith(f"{letter}end")
    assert KEY[:30] not in json.dumps(line)

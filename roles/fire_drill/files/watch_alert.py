#!/usr/bin/env python3
"""Ask Prometheus of this host whether an alert fires, and Grafana's counter whether a message was sent.

watch_alert.py PROJECT before RULE                 how many messages were sent until now, `-` if Grafana does not say;
                                                   exit code 1 when the alert fires already
watch_alert.py PROJECT wait RULE SINCE LIMIT SENT  seconds from SINCE (Unix time) to firing, and to the next message
"""

import json
import re
import subprocess
import sys
import time
from urllib.parse import quote


def get(project: str, url: str) -> str:
    """Return an answer from inside the stack's network, empty without one."""
    command = ["docker", "exec", f"{project}-prometheus-1", "wget", "-q", "-T", "5", "-O", "-", url]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603  # no shell


def fires(project: str, rule: str) -> bool:
    expression = quote(f'ALERTS{{alertname="{rule}",alertstate="firing"}}')
    answer = get(project, f"http://127.0.0.1:9090/api/v1/query?query={expression}")
    return bool(answer and json.loads(answer)["data"]["result"])


def sent(project: str) -> str:
    page = get(project, "http://grafana:3000/metrics")
    if "grafana_alerting_rule_evaluations_total" not in page:
        return "-"
    # The series does not exist before the first message.
    counts = re.findall(r"^grafana_alerting_notifications_total\{.*\} (\S+)$", page, re.M)
    return f"{sum(map(float, counts)):.0f}"


def wait(project: str, rule: str, since: float, limit: float, before: str) -> str:
    fired = message = ""
    while time.time() < since + limit and not (fired and (message or before == "-")):
        if not fired and fires(project, rule):
            fired = f"{time.time() - since:.0f}"
        if before != "-" and not message and sent(project) not in ("-", before):
            message = f"{time.time() - since:.0f}"
        time.sleep(1)
    return f"{fired or 'never'} {message or '-'}"


if __name__ == "__main__":
    project, what, rule, *rest = sys.argv[1:]
    if what == "wait":
        print(wait(project, rule, float(rest[0]), float(rest[1]), rest[2]))
    elif fires(project, rule):
        sys.exit(f"{rule} fires already: repair that first.")
    else:
        print(sent(project))

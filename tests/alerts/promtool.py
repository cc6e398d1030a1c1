"""Turns the healthy world and the cases (world.yml, cases.yml) into the input of `promtool test rules`."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
#: Between two samples and between two evaluations, as roles/prometheus sets it.
STEP = 15
#: Until things break.
BREAKS_AT = 20 * 60
#: How long a critical fault may last before the rule fires: the promised 300 s without a scrape (15), the text file
#: that the host writes (15), Grafana's evaluation (30) and group_wait (10), rounded down to samples.
BUDGET = 225

#: What stands for a target's labels in world.yml and cases.yml.
TARGETS = {
    "worker": 'job="worker",host="server",colour="blue",instance="172.30.250.11:8000"',
    "green": 'job="worker",host="server",colour="green",instance="172.30.250.12:8000"',
    "celery": 'job="celery",instance="celery-exporter:9808"',
    "redis": 'job="redis",instance="redis-exporter:9121"',
    "node": 'job="node",host="server",instance="172.30.250.1:9100"',
    "prometheus": 'job="prometheus",instance="localhost:9090"',
    "loki": 'job="loki",instance="loki:3100"',
    "alloy": 'job="alloy",host="server",instance="alloy:12345"',
    "grafana": 'job="grafana",instance="grafana:3000"',
}

Rule = dict[str, Any]


@dataclass
class Case:
    """One way to break things, and when its rule fires."""

    name: str
    fault: dict[str, Any]
    prelude: dict[str, Any] = field(default_factory=dict)
    at: str | None = None
    quiet_for: str | None = None
    quiet: bool = True
    #: False: Prometheus records nothing.
    recorded: bool = True
    count: int = 1

    @property
    def uid(self) -> str:
        return self.name.split()[0]

    @property
    def file(self) -> str:
        return re.sub(r"\W+", "-", self.name) + ".test.yml"


def cases() -> list[Case]:
    """All of cases.yml."""
    every = yaml.safe_load((HERE / "cases.yml").read_text())
    found = []
    for name, case in every.items():
        fault = {in_full(series): value for series, value in case["fault"].items()}
        found.append(Case(name, **{**case, "fault": fault}))
    return found


def world() -> dict[str, Any]:
    """The healthy series and how they go."""
    series = yaml.safe_load((HERE / "world.yml").read_text())
    return {in_full(name): value for name, value in series.items()}


def in_full(series: str) -> str:
    """With the labels of its target: `up{$redis}`."""
    return re.sub(r"\$(\w+)", lambda found: TARGETS[found[1]], series)


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def case_test(case: Case, rule: Rule) -> dict[str, Any]:
    """One promtool test: silent before the fault and while it is young, firing when it has to."""
    delay = seconds(rule["for"])
    fires = (
        seconds(case.at) if case.at else BUDGET if rule["severity"] == "critical" else -(-(delay + 60) // STEP) * STEP
    )
    silent_for = seconds(case.quiet_for) if case.quiet_for else delay
    alert = f'ALERTS{{alertname="{rule["uid"]}", alertstate="firing", severity="{rule["severity"]}"}}'
    silent = [BREAKS_AT - STEP, BREAKS_AT + silent_for - STEP] if case.quiet else []
    checks: list[dict[str, Any]] = [
        {"expr": f"count({alert})", "eval_time": f"{at}s", "exp_samples": []} for at in silent
    ]
    expected = {"labels": "{}", "value": case.count}
    checks.append(
        {
            "expr": f"count({alert})",
            "eval_time": f"{BREAKS_AT + fires}s",
            "exp_samples": [expected] if case.count else [],
        }
    )
    return {"interval": f"{STEP}s", "input_series": broken(case, BREAKS_AT + fires), "promql_expr_test": checks}


def still_test(series: dict[str, Any], firing: dict[str, int]) -> dict[str, Any]:
    """One promtool test in which nothing changes for two hours: how often each rule has fired."""
    alerts = 'count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[2h]))'
    expected = [{"labels": f'{{alertname="{uid}"}}', "value": count} for uid, count in firing.items()]
    inputs = [{"series": name, "values": notation(value, 2 * 3600)} for name, value in series.items()]
    check = {"expr": alerts, "eval_time": "2h", "exp_samples": expected}
    return {"interval": f"{STEP}s", "input_series": inputs, "promql_expr_test": [check]}


def broken(case: Case, end: int) -> list[dict[str, str]]:
    """The world's series with the fault; every entry of the fault has to match something or name a whole new series."""
    series = world()
    unused = {*case.fault, *case.prelude}
    lines = []
    for name, healthy in series.items():
        values: dict[str, Any] = {"prelude": healthy, "fault": None}
        for part in values:
            for selector, value in getattr(case, part).items():
                if matches(selector, name):
                    values[part] = value
                    unused.discard(selector)
        lines.append({"series": name, "values": notation(values["prelude"], end, values["fault"])})
    for selector in unused:
        assert selector.count("=") >= 3, f"{case.name}: {selector} matches nothing in world.yml"
        lines.append({"series": selector, "values": notation("gone", end, case.fault[selector])})
    return lines


def matches(selector: str, series: str) -> bool:
    """True if the series has all labels of the selector."""
    (name, labels), (own_name, own_labels) = parts(selector), parts(series)
    return name == own_name and labels.items() <= own_labels.items()


def parts(series: str) -> tuple[str, dict[str, str]]:
    name, _, labels = series.partition("{")
    return name, dict(re.findall(r'(\w+)="([^"]*)"', labels))


def notation(healthy: Any, end: int, broken: Any = None) -> str:
    """promtool's notation of samples from 0 to `end`; `broken` instead of `healthy` from the moment of the fault on."""
    count = end // STEP + 1
    if broken is None:
        return stretch(healthy, 0, count, 0.0)
    before = BREAKS_AT // STEP
    last = last_value(healthy, before)
    return f"{stretch(healthy, 0, before, 0.0)} {stretch(broken, before, count - before, last)}"


def stretch(value: Any, first: int, count: int, last: float) -> str:
    """`count` samples; a pace goes on from the last value."""
    if value == "gone":
        return f"stale _x{count - 1}"
    start, pace = line(value, first, last)
    return f"{start:.4f}{pace:+.4f}x{count - 1}"


def line(value: Any, first: int, last: float) -> tuple[float, float]:
    """Start and pace of: a number, `100+2`, `+2` (from the last value on), `{time}-15`."""
    text = str(value)
    if text.startswith("{time}"):
        return first * STEP + sum(float(part) for part in re.findall(r"[+-][\d.e]+", text)), STEP
    if isinstance(value, str) and text[0] in "+-":
        return last + float(text), float(text)
    start, pace = re.fullmatch(r"(-?[\d.]+(?:e\d+)?)([+-][\d.]+(?:e\d+)?)?", text).groups()  # type: ignore[union-attr]
    return float(start), float(pace or 0)


def last_value(value: Any, before: int) -> float:
    if value == "gone":
        return 0.0
    start, pace = line(value, 0, 0.0)
    return start + pace * (before - 1)

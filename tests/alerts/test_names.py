"""A typo in a metric, a label or a label's value would make a rule silent for ever."""

from typing import Any

import pytest

from tests.alerts.names import HISTOGRAM, Known, known, problems
from tests.alerts.promtool import parts, world


@pytest.fixture(scope="module")
def metrics(prometheus_rules: dict[str, Any]) -> dict[str, Known]:
    """And what the rules themselves record."""
    recorded = {
        rule["record"]: Known("", {})
        for group in prometheus_rules["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    return {**known(), **recorded}


def test_expressions_ask_for_what_exists(prometheus_rules: dict[str, Any], metrics: dict[str, Known]) -> None:
    for group in prometheus_rules["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert", rule.get("record"))
            assert not problems(rule["expr"], metrics), name


def test_summaries_name_labels_that_are_left(rules: dict[str, dict[str, Any]]) -> None:
    """A label that an aggregation drops cannot be shown."""
    for uid, rule in rules.items():
        for label in (
            "host",
            "service",
            "channel",
            "payer",
            "reason",
            "dependency",
            "mountpoint",
            "integration",
            "job",
        ):
            if f"{{{label}}}" in rule["summary"]:
                assert f"by ({label}" in rule["expr"] or f", {label}" in rule["expr"] or f'{label}="' in rule["expr"], (
                    uid
                )


def test_healthy_world_holds_what_exists(metrics: dict[str, Known]) -> None:
    for series in world():
        name, labels = parts(series)
        assert labels.keys() <= metrics[name].labels.keys(), series
        for label, value in labels.items():
            closed = metrics[name].labels[label]
            assert not closed or value in closed or (label == "model" and not closed), series


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("sum(wearon_generation_total)", "there is no metric wearon_generation_total"),
        ('wearon_generations_total{outcome="fail"}', "never has outcome='fail'"),
        ('wearon_ready{color="blue"}', "has no label color"),
        ("sum by (hostname) (wearon_ready)", "nothing in the aggregation has the label hostname"),
        ('wearon_generations_total{reason=~"image_bad.*"}', "never has reason='image_bad.*'"),
    ],
)
def test_typos_are_noticed(wrong: str, complaint: str, metrics: dict[str, Known]) -> None:
    assert complaint in problems(wrong, metrics)[0]


def test_all_sources_are_read(metrics: dict[str, Known]) -> None:
    for name in ("wearon_generations_total", "wearon_container_healthy", "node_timex_sync_status"):
        assert name in metrics
    assert all(f"wearon_generation_seconds{suffix}" in metrics for suffix in HISTOGRAM)

"""The page /metrics, in Prometheus's text format."""

from typing import get_args

from bridge.delivery import Deliveries
from bridge.states import State


def page(state: State, deliveries: Deliveries) -> str:
    """All metrics of the bridge."""
    lines = ["# TYPE wearon_whatsapp_messages_total counter"]
    lines += [
        f'wearon_whatsapp_messages_total{{outcome="{name}"}} {count}' for name, count in deliveries.counts.items()
    ]
    lines += ["# TYPE wearon_whatsapp_state gauge"]
    lines += [f'wearon_whatsapp_state{{state="{name}"}} {int(name == state)}' for name in get_args(State)]
    lines += ["# TYPE wearon_whatsapp_undelivered_seconds gauge"]
    lines += [f"wearon_whatsapp_undelivered_seconds {deliveries.undelivered_seconds():.0f}"]
    if (last := deliveries.last_delivered()) is not None:
        lines += ["# TYPE wearon_whatsapp_last_delivered_timestamp_seconds gauge"]
        lines += [f"wearon_whatsapp_last_delivered_timestamp_seconds {last:.0f}"]
    return "\n".join(lines) + "\n"

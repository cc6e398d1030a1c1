"""Everything that was logged, by service, by request, by level."""

from scripts.dashboards.panels import LOKI, Dashboard, Panel

BOARD = Dashboard(
    uid="wearon-logs",
    title="Logs",
    explanation="Put a request id or a session id above to follow one customer.",
    fields={"request_id": "", "session_id": "", "text": ""},
    panels=[
        Panel(
            "Who logs how much?",
            "Lines a minute, by service.",
            "cpm",
            {"{{service}}": 'sum by (service) (count_over_time({service=~".+"} [1m]))'},
            kind="stacked",
            source=LOKI,
        ),
        Panel(
            "How many errors are logged?",
            "Lines a minute of the levels error and critical, by service.",
            "cpm",
            {"{{service}}": 'sum by (service) (count_over_time({level=~"error|critical"} [1m]))'},
            kind="stacked",
            source=LOKI,
        ),
        Panel(
            "What happened to this request?",
            "Lines with the request id, the session id and the text that stand above; empty ones do not count.",
            "short",
            {"lines": '{service=~".+"} | request_id=~"${request_id}.*" | session_id=~"${session_id}.*" |= `${text}`'},
            kind="logs",
            width=24,
            source=LOKI,
        ),
        Panel(
            "What went wrong?",
            "Errors of all services, and requests that nginx answered with 5xx.",
            "short",
            {
                "errors": '{level=~"error|critical"}',
                "5xx": '{service="nginx"} | json | status >= 500',
            },
            kind="logs",
            width=24,
            source=LOKI,
        ),
    ],
)

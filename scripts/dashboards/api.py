"""The size API and HTTP."""

from scripts.dashboards.panels import LOKI, Dashboard, Panel

_DURATION = (
    'sum by (le) (rate(http_request_duration_seconds_bucket{job="worker", handler="/estimate-body"}[$__rate_interval]))'
)
_STEPS = "sum by (step, le) (rate(wearon_sizing_step_seconds_bucket[$__rate_interval]))"

BOARD = Dashboard(
    uid="wearon-api",
    title="API",
    explanation="Size estimates and everything else that is asked over HTTP.",
    panels=[
        Panel(
            "How many requests come in?",
            "A second, by route and kind of answer.",
            "reqps",
            {"{{handler}} {{status}}": "sum by (handler, status) (rate(http_requests_total[$__rate_interval]))"},
            kind="stacked",
        ),
        Panel(
            "Which requests fail?",
            "Share of the answers of the workers that are 5xx, 503 when they are busy included.",
            "percentunit",
            {
                "5xx": '(sum(rate(http_requests_total{status="5xx"}[$__rate_interval])) or vector(0)) '
                "/ (sum(rate(http_requests_total[$__rate_interval])) > 0)"
            },
        ),
        Panel(
            "How long does a size take?",
            "Half of the requests, and 95 of 100, at most this long. The promise is 3 s.",
            "s",
            {"half": f"histogram_quantile(0.5, {_DURATION})", "95 of 100": f"histogram_quantile(0.95, {_DURATION})"},
        ),
        Panel(
            "Which step takes the time?",
            "95 of 100 times: download, waiting for a free thread, measuring.",
            "s",
            {"{{step}}": f"histogram_quantile(0.95, {_STEPS})"},
        ),
        Panel(
            "What becomes of size requests?",
            "A minute, by outcome.",
            "cpm",
            {"{{outcome}}": "60 * sum by (outcome) (rate(wearon_sizing_requests_total[$__rate_interval])) > 0"},
            kind="stacked",
        ),
        Panel(
            "Why can people not be measured?",
            "A minute, by the reason that the client was told.",
            "cpm",
            {
                "{{reason}}": "60 * sum by (reason) "
                '(rate(wearon_sizing_requests_total{reason!="none"}[$__rate_interval])) > 0'
            },
            kind="stacked",
        ),
        Panel(
            "How full is the pool?",
            "Requests that wait or are measured, beside how many may; beyond that the answer is 503.",
            "short",
            {"pending": "sum(wearon_sizing_pool_pending)", "limit": "sum(wearon_sizing_pool_limit)"},
        ),
        Panel(
            "What do clients get at nginx?",
            "Answers a second by status, from nginx's log; also when no worker answers.",
            "reqps",
            {"{{status}}": 'sum by (status) (rate({service="nginx"} | json | status > 0 [1m]))'},
            kind="stacked",
            source=LOKI,
        ),
    ],
)

"""Which version runs, and what a rollout did to customers."""

from scripts.dashboards.panels import Dashboard, Panel

BOARD = Dashboard(
    uid="wearon-deploys",
    title="Deploys",
    explanation="Rollouts as customers see them: not at all.",
    span="now-3h",
    panels=[
        Panel(
            "Which version runs where?",
            "Each container with its version and commit.",
            "short",
            {"version": "max by (host, colour, version, commit) (wearon_build_info)"},
            kind="table",
        ),
        Panel(
            "Which version ran when?",
            "Containers of each version; a new one marks a rollout in all dashboards.",
            "short",
            {"{{version}} {{commit}}": "count by (version, commit) (wearon_build_info)"},
            kind="stacked",
        ),
        Panel(
            "Which colour takes new work?",
            "1 while it is ready.",
            "short",
            {"{{host}} {{colour}}": "max by (host, colour) (wearon_ready)"},
        ),
        Panel(
            "Which colour drains?",
            "Generations that still run in a container that was told to stop.",
            "short",
            {
                "{{host}} {{colour}} draining": "max by (host, colour) (wearon_draining)",
                "{{host}} {{colour}} running": "sum by (host, colour) (wearon_generations_in_flight)",
            },
        ),
        Panel(
            "Did a rollout cost requests?",
            "Answers 5xx a minute; none is right.",
            "cpm",
            {"5xx": '60 * (sum(rate(http_requests_total{status="5xx"}[$__rate_interval])) or vector(0))'},
        ),
        Panel(
            "Did a rollout cost generations?",
            "A minute: generations whose worker was lost, or that had to be begun again.",
            "cpm",
            {
                "lost": '60 * sum(rate(wearon_generations_total{reason="worker_lost"}[$__rate_interval]))',
                "begun again": '60 * sum(rate(wearon_generations_requeued_total{reason="released"}[$__rate_interval]))',
            },
        ),
        Panel(
            "When was each container started?",
            "Starts in 10 minutes, by service.",
            "short",
            {"{{host}} {{service}}": "sum by (host, service) (changes(wearon_container_start_time_seconds[10m]))"},
            width=24,
        ),
    ],
)

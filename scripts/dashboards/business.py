"""The questions of the people behind the product: how many, how good, how fast, how much."""

from scripts.dashboards.panels import Dashboard, Panel

_COMPLETED = 'wearon_generations_total{outcome="completed"}'
_FAILED = 'wearon_generations_total{outcome="failed"}'
_SECONDS = 'wearon_generation_seconds_bucket{outcome="completed"}'


def _estimate(measure: str) -> dict[str, str]:
    """Query an estimate of the versions that have sessions: the others are no numbers."""
    return {"{{version}} {{bound}}": f'max by (version, bound) (wearon_prompt_estimate{{measure="{measure}"}} >= 0)'}


def _slowest(share: float, window: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({_SECONDS}[{window}])))"


BOARD = Dashboard(
    uid="wearon-business",
    title="Business",
    explanation="Generations, success, waiting time, credits and cost, by channel.",
    span="now-24h",
    panels=[
        Panel(
            "How many pictures were made?",
            "Generations that were delivered within the chosen time.",
            "short",
            {"pictures": f"sum(increase({_COMPLETED}[$__range]))"},
            kind="number",
            width=4,
        ),
        Panel(
            "What share succeeded?",
            "Of all generations that ended within the chosen time. The promise is 95 %.",
            "percentunit",
            {"success": f"sum(increase({_COMPLETED}[$__range])) / sum(increase(wearon_generations_total[$__range]))"},
            kind="number",
            width=4,
        ),
        Panel(
            "How long do 95 of 100 customers wait at most?",
            "From the click to the picture, within the chosen time. The promise is 45 s.",
            "s",
            {"P95": _slowest(0.95, "$__range")},
            kind="number",
            width=4,
        ),
        Panel(
            "What did OpenAI cost?",
            "By the price table in the settings, within the chosen time.",
            "currencyUSD",
            {"cost": "sum(increase(wearon_openai_cost_usd_total[$__range]))"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many credits went back?",
            "One for each failed generation that had been paid with a credit.",
            "short",
            {"credits": "sum(increase(wearon_refunds_total[$__range]))"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many credits are astray?",
            "What the last audit found; anything but 0 is an alert.",
            "short",
            {"credits": "max(wearon_audit_drift_credits)"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many generations end in a minute?",
            "By channel and outcome.",
            "cpm",
            {
                "{{channel}} {{outcome}}": "60 * sum by (channel, outcome) "
                "(rate(wearon_generations_total[$__rate_interval]))"
            },
            kind="stacked",
        ),
        Panel(
            "Why do generations fail?",
            "By reason, a minute. image_* and moderation_blocked are the customer's own picture or wish.",
            "cpm",
            {"{{reason}}": f"60 * sum by (reason) (rate({_FAILED}[$__rate_interval])) > 0"},
            kind="stacked",
        ),
        Panel(
            "How long do customers wait?",
            "From the click to the picture: half of them, and 95 of 100, at most this long.",
            "s",
            {"half": _slowest(0.5, "$__rate_interval"), "95 of 100": _slowest(0.95, "$__rate_interval")},
        ),
        Panel(
            "How long, by channel?",
            "95 of 100 customers of a channel wait at most this long.",
            "s",
            {"{{channel}}": f"histogram_quantile(0.95, sum by (channel, le) (rate({_SECONDS}[$__rate_interval])))"},
        ),
        Panel(
            "What does it cost in an hour?",
            "OpenAI's price, by channel.",
            "currencyUSD",
            {"{{channel}}": "sum by (channel) (increase(wearon_openai_cost_usd_total[1h]))"},
            kind="stacked",
        ),
        Panel(
            "What does one picture cost?",
            "OpenAI's price divided by delivered pictures, so failed calls count, too.",
            "currencyUSD",
            {
                "{{channel}}": "sum by (channel) (increase(wearon_openai_cost_usd_total[1h])) "
                f"/ (sum by (channel) (increase({_COMPLETED}[1h])) > 0)"
            },
        ),
        Panel(
            "Who gets credits back?",
            "In an hour, by who had paid.",
            "short",
            {"{{payer}}": "sum by (payer) (increase(wearon_refunds_total[1h]))"},
            kind="stacked",
        ),
        Panel(
            "What waits for a person?",
            "Refunds to make by hand in the last day, dead letters, outcomes that the database does not have yet.",
            "short",
            {
                "refunds by hand": "sum(increase(wearon_refunds_by_hand_total[1d]))",
                "dead letters": "max(wearon_dead_letters)",
                "outcomes": "max(wearon_settlements_waiting)",
            },
        ),
        Panel(
            "Do partners get their callbacks?",
            "Attempts in an hour, by what came of them.",
            "short",
            {"{{result}}": "sum by (result) (increase(wearon_webhook_attempts_total[1h]))"},
            kind="stacked",
        ),
        Panel(
            "How much was spent on OpenAI?",
            "In this UTC day and month, and reserved by calls in flight.",
            "currencyUSD",
            {
                "{{period}}": "max by (period) (wearon_spend_usd)",
                "in flight": "max(wearon_spend_reserved_usd)",
            },
        ),
        Panel(
            "How much of the budgets is spent?",
            "Of all, of the users of the app, and of the store with the largest share. At 100 % its sessions fail.",
            "percentunit",
            {"{{scope}}, {{period}}": "max by (scope, period) (wearon_budget_used_ratio)"},
        ),
        Panel(
            "How long do callbacks wait?",
            "The oldest one; a partner that does not answer gets 8 attempts within 24 hours.",
            "s",
            {"oldest": "max(wearon_webhook_oldest_age_seconds)", "overdue": "max(wearon_webhook_overdue_seconds)"},
        ),
        Panel(
            "How old is the oldest picture?",
            "In the storage; the promise is 6 hours. It grows while no purge reaches its end.",
            "s",
            {"oldest": "max(wearon_data_life_oldest_age_seconds)"},
        ),
        Panel(
            "How many pictures were deleted?",
            "In an hour, because of their age; failures are pictures that stayed, and purges that did not end.",
            "short",
            {
                "deleted": "sum(increase(wearon_data_life_deleted_objects_total[1h]))",
                "failures": "sum(increase(wearon_data_life_failures_total[1h]))",
            },
        ),
        Panel(
            "How much of the time was the service available?",
            "A worker ready, nginx up, nothing failing, as a share of the last hour. The promise is 99.5 %.",
            "percentunit",
            {"available": "1 - avg_over_time(wearon:unavailable:ratio[1h])"},
            width=24,
        ),
        Panel(
            "Which prompt versions succeed?",
            "Share of delivered pictures in the last day, with the limits of 95 %: as `wearon-worker prompts compare`.",
            "percentunit",
            _estimate("success"),
        ),
        Panel(
            "Which prompt versions does moderation block?",
            "Share in the last day, with the limits of 95 %. A version far above the control is paused.",
            "percentunit",
            _estimate("moderation"),
        ),
        Panel(
            "How long do pictures of each prompt version take?",
            "Mean in the last day, with the limits of 95 %.",
            "s",
            _estimate("seconds"),
        ),
        Panel(
            "What does a picture of each prompt version cost?",
            "Mean in the last day, with the limits of 95 %.",
            "currencyUSD",
            _estimate("cost_usd"),
        ),
        Panel(
            "How many sessions has each prompt version?",
            "Ended in the last day; a comparison needs 100 of each.",
            "short",
            {"{{version}}": "max by (version) (wearon_prompt_sessions)"},
        ),
        Panel(
            "Which prompt version is paused?",
            "1 while its sessions get the control.",
            "short",
            {"{{version}}": "max by (version) (wearon_prompt_paused)"},
        ),
    ],
)

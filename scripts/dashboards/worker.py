"""The way from the queue to the picture."""

from scripts.dashboards.panels import Dashboard, Panel

_STEPS = "sum by (step, le) (rate(wearon_generation_step_seconds_bucket[$__rate_interval]))"

BOARD = Dashboard(
    uid="wearon-worker",
    title="Worker",
    explanation="Queue, slots, steps, the limiter and OpenAI.",
    panels=[
        Panel(
            "How many workers are ready?",
            "Containers that take new work.",
            "short",
            {"ready": "sum(wearon_ready)"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many messages wait?",
            "On the producers' list; in production Redis.",
            "short",
            {"messages": "max(wearon_queue_messages)"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many generations run?",
            "All instances together.",
            "short",
            {"running": "sum(wearon_generations_in_flight)"},
            kind="number",
            width=4,
        ),
        Panel(
            "Is the intake paused?",
            "1 while nothing is taken because OpenAI has no quota.",
            "short",
            {"paused": "max(wearon_intake_paused)"},
            kind="number",
            width=4,
        ),
        Panel(
            "Is the fallback model in use?",
            "1 once OpenAI did not know the configured model.",
            "short",
            {"fallback": "max(wearon_openai_fallback_in_use)"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many outcomes wait for the database?",
            "Finished generations, and their refunds, that are not in the database yet.",
            "short",
            {"outcomes": "max(wearon_settlements_waiting)"},
            kind="number",
            width=4,
        ),
        Panel(
            "How many messages wait, and how many are being worked on?",
            "The list of the producers; what instances have taken and not finished.",
            "short",
            {"waiting": "max(wearon_queue_messages)", "taken": "max(wearon_claimed_messages)"},
        ),
        Panel(
            "How long has the oldest message waited?",
            "By its created_at; 0 when nothing waits.",
            "s",
            {"oldest": "max(wearon_queue_oldest_message_age_seconds)"},
        ),
        Panel(
            "Are all slots busy?",
            "Running generations beside how many may run at once, all instances together.",
            "short",
            {"running": "sum(wearon_generations_in_flight)", "slots": "sum(wearon_generation_slots)"},
        ),
        Panel(
            "What becomes of messages?",
            "A minute: taken, refused (dead letters), dropped (duplicates), put back (of dead instances).",
            "cpm",
            {
                "taken": "60 * sum(rate(wearon_messages_taken_total[$__rate_interval]))",
                "refused": "60 * sum(rate(wearon_messages_refused_total[$__rate_interval]))",
                "dropped": "60 * sum(rate(wearon_messages_dropped_total[$__rate_interval]))",
                "put back": "60 * sum(rate(wearon_messages_put_back_total[$__rate_interval]))",
            },
        ),
        Panel(
            "Which step takes the time?",
            "95 of 100 times: queue_wait and limiter_wait are load, edit is OpenAI, the rest is Supabase.",
            "s",
            {"{{step}}": f"histogram_quantile(0.95, {_STEPS})"},
        ),
        Panel(
            "Where does the average generation spend its time?",
            "Seconds of each step for one ended generation.",
            "s",
            {
                "{{step}}": "sum by (step) (rate(wearon_generation_step_seconds_sum[$__rate_interval])) "
                "/ on () group_left () (sum(rate(wearon_generations_total[$__rate_interval])) > 0)"
            },
            kind="stacked",
        ),
        Panel(
            "What does OpenAI answer?",
            "Calls a minute by result; retries count.",
            "cpm",
            {"{{result}}": "60 * sum by (result) (rate(wearon_openai_calls_total[$__rate_interval])) > 0"},
            kind="stacked",
        ),
        Panel(
            "How close is the account's limit?",
            "Calls of the whole account in the last minute beside the limit, and calls that wait for their turn.",
            "short",
            {
                "calls": "max(wearon_openai_limit_calls)",
                "limit": "max(wearon_openai_limit_per_minute)",
                "waiting": "max(wearon_openai_limit_waiting)",
            },
        ),
        Panel(
            "How long do calls wait for their turn?",
            "95 of 100 calls to OpenAI wait at most this long for the limiter.",
            "s",
            {
                "95 of 100": "histogram_quantile(0.95, sum by (le) "
                '(rate(wearon_generation_step_seconds_bucket{step="limiter_wait"}[$__rate_interval])))'
            },
        ),
        Panel(
            "How many tokens are used?",
            "A second, by model and direction.",
            "short",
            {
                "{{model}} {{direction}}": "sum by (model, direction) "
                "(rate(wearon_openai_tokens_total[$__rate_interval]))"
            },
        ),
        Panel(
            "How long do refunds take?",
            "95 of 100, from the known failure to the refund in the database.",
            "s",
            {"{{channel}}": "histogram_quantile(0.95, sum by (channel, le) (rate(wearon_refund_seconds_bucket[1h])))"},
        ),
        Panel(
            "What goes back to wait, and what is given up?",
            "In an hour: generations that were queued again, sessions that were not settled.",
            "short",
            {
                "{{reason}}": "sum by (reason) (increase(wearon_generations_requeued_total[1h]))",
                "given up: {{reason}}": "sum by (reason) (increase(wearon_stuck_sessions_total[1h]))",
            },
        ),
        Panel(
            "What is odd?",
            "In an hour: looks at rows, entries and keys that no worker of this version makes.",
            "short",
            {"{{where}}": "sum by (where) (increase(wearon_odd_items_total[1h]))"},
        ),
        Panel(
            "How much is downloaded and stored?",
            "Customers' pictures in, finished pictures out.",
            "Bps",
            {"{{direction}}": "sum by (direction) (rate(wearon_image_bytes_total[$__rate_interval]))"},
        ),
        Panel(
            "How much memory do its processes use?",
            "The supervisor with the size API, and Celery with the generations.",
            "bytes",
            {
                "{{host}} {{colour}} supervisor": 'process_resident_memory_bytes{job="worker"}',
                "{{host}} {{colour}} celery": "wearon_celery_process_resident_memory_bytes",
            },
        ),
        Panel(
            "Which part is missing?",
            "1 while it does its work.",
            "short",
            {"{{dependency}}": "min by (dependency) (wearon_dependency_up)"},
        ),
        Panel(
            "What does Celery report?",
            "Tasks a minute by the events that Celery sends.",
            "cpm",
            {
                "received": "60 * sum(rate(celery_task_received_total[$__rate_interval]))",
                "succeeded": "60 * sum(rate(celery_task_succeeded_total[$__rate_interval]))",
            },
        ),
    ],
)

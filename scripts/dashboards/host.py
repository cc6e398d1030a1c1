"""Hosts, containers, Redis, certificate and backup."""

from scripts.dashboards.panels import Dashboard, Panel

BOARD = Dashboard(
    uid="wearon-host",
    title="Host and containers",
    explanation="What the machines have left, and who uses it.",
    panels=[
        Panel(
            "How many days is the certificate valid?",
            "Of the certificate that nginx serves.",
            "d",
            {"{{host}}": "(wearon_certificate_expiry_timestamp_seconds - time()) / 86400"},
            kind="number",
            width=6,
        ),
        Panel(
            "How old is the newest backup?",
            "Nothing here: no recipient for backups is set.",
            "s",
            {"{{host}}": "time() - wearon_backup_timestamp_seconds > 0"},
            kind="number",
            width=6,
        ),
        Panel(
            "Does WhatsApp take messages?",
            "1: the bridge is paired and takes alerts.",
            "short",
            {"bridge": "min(wearon_whatsapp_bridge_up)"},
            kind="number",
            width=6,
        ),
        Panel(
            "How many alerts fire?",
            "By Prometheus's own evaluation of the same rules.",
            "short",
            {"alerts": 'count(ALERTS{alertstate="firing"}) or vector(0)'},
            kind="number",
            width=6,
        ),
        Panel(
            "How much CPU is used?",
            "Of all cores together, by host.",
            "percentunit",
            {"{{host}}": '1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))'},
        ),
        Panel(
            "Which service uses the CPU?",
            "Cores, by service.",
            "short",
            {
                "{{host}} {{service}}": "sum by (host, service) "
                "(rate(wearon_container_cpu_seconds_total[$__rate_interval]))"
            },
            kind="stacked",
        ),
        Panel(
            "How much memory is used?",
            "Without what the kernel can give back at once.",
            "percentunit",
            {"{{host}}": "1 - max by (host) (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)"},
        ),
        Panel(
            "Which service uses the memory?",
            "Without the page cache.",
            "bytes",
            {"{{host}} {{service}}": "sum by (host, service) (wearon_container_memory_bytes)"},
            kind="stacked",
        ),
        Panel(
            "Which service is close to its limit?",
            "Share of its own memory limit; at 1 the kernel kills it.",
            "percentunit",
            {
                "{{host}} {{service}}": "max by (host, service) "
                "(wearon_container_memory_bytes / (wearon_container_memory_limit_bytes > 0))"
            },
        ),
        Panel(
            "Which service is not healthy?",
            "1: it runs and its health check passes.",
            "short",
            {"{{host}} {{service}}": "min by (host, service) (wearon_container_healthy)"},
        ),
        Panel(
            "How full are the disks?",
            "By mount point.",
            "percentunit",
            {
                "{{host}} {{mountpoint}}": "1 - max by (host, mountpoint) "
                "(node_filesystem_avail_bytes / node_filesystem_size_bytes)"
            },
        ),
        Panel(
            "How many inodes are used?",
            "By mount point; without free ones no file can be made.",
            "percentunit",
            {
                "{{host}} {{mountpoint}}": "1 - max by (host, mountpoint) "
                "(node_filesystem_files_free / (node_filesystem_files > 0))"
            },
        ),
        Panel(
            "What does the network carry?",
            "Received and sent, by host.",
            "Bps",
            {
                "{{host}} in": "sum by (host) (rate(node_network_receive_bytes_total[$__rate_interval]))",
                "{{host}} out": "sum by (host) (rate(node_network_transmit_bytes_total[$__rate_interval]))",
            },
        ),
        Panel(
            "How busy are the disks?",
            "Share of the time in which a disk had something to do.",
            "percentunit",
            {"{{host}} {{device}}": "max by (host, device) (rate(node_disk_io_time_seconds_total[$__rate_interval]))"},
        ),
        Panel(
            "What was restarted?",
            "Starts of each service in an hour.",
            "short",
            {"{{host}} {{service}}": "sum by (host, service) (changes(wearon_container_start_time_seconds[1h]))"},
        ),
        Panel(
            "What was killed for want of memory?",
            "In an hour: in a container at its limit, on the whole host.",
            "short",
            {
                "{{host}} {{service}}": "sum by (host, service) (increase(wearon_container_oom_kills_total[1h]))",
                "{{host}}": "sum by (host) (increase(node_vmstat_oom_kill[1h]))",
            },
        ),
        Panel(
            "How full is Redis?",
            "Memory in use beside what it may; then it refuses writes.",
            "bytes",
            {"used": "max(redis_memory_used_bytes)", "limit": "max(redis_memory_max_bytes)"},
        ),
        Panel(
            "What is Redis asked?",
            "Commands a second.",
            "ops",
            {"commands": "sum(rate(redis_commands_processed_total[$__rate_interval]))"},
        ),
        Panel(
            "How wrong is the clock?",
            "Distance from the server's clock.",
            "s",
            {"{{host}}": "max by (host) (abs(node_time_seconds - timestamp(node_time_seconds)))"},
        ),
        Panel(
            "How much do metrics and logs bring in?",
            "Series that Prometheus holds; lines that Loki receives in a minute.",
            "short",
            {
                "series": "max(prometheus_tsdb_head_series)",
                "lines a minute": "60 * sum(rate(loki_distributor_lines_received_total[$__rate_interval]))",
            },
        ),
    ],
)

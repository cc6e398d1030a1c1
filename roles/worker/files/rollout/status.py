"""The state of the service on one screen, from Prometheus, the records of the host and its deploy log."""

import re
import urllib.parse
from pathlib import Path
from typing import Any

import host

_FILES = 'fstype!~"tmpfs|ramfs|overlay|squashfs|nsfs"'
#: Name of each line -> the query, the words for each series, and those for none.
_ROWS = {
    "release": (
        "max by (host, colour, version) (wearon_build_info)",
        "{version} ({colour} on {host})",
        "no worker answers",
    ),
    "ready": ("sum by (host) (wearon_ready)", "{value} on {host}", "none"),
    "queue": ("max(wearon_queue_messages)", "{value} messages", "unknown"),
    "oldest": ("max(wearon_queue_oldest_message_age_seconds)", "{value} s", "unknown"),
    "in flight": ("sum(wearon_generations_in_flight)", "{value} generations", "unknown"),
    "slots": ("sum(wearon_generation_slots)", "{value}", "unknown"),
    "books": ("sum(max by (kind) (wearon_audit_findings))", "{value} findings", "never audited"),
    "audited": ("(time() - max(wearon_audit_timestamp_seconds > 0)) / 60", "{value} minutes ago", "never"),
    "alerts": (
        'max by (alertname, severity) (ALERTS{alertstate="firing",severity!="none"})',
        "{alertname}",
        "none fires",
    ),
    "maintenance": ("(time() - max(wearon_maintenance_timestamp_seconds > 0)) / 60", "for {value} minutes", "no"),
    "certificate": ("(min(wearon_certificate_expiry_timestamp_seconds > 0) - time()) / 86400", "{value} days", "none"),
    "disk": (
        f"max by (host, mountpoint) (100 - 100 * node_filesystem_avail_bytes{{{_FILES}}} / node_filesystem_size_bytes)",
        "{value} % of {mountpoint} on {host}",
        "unknown",
    ),
    "backup": ("(time() - max(wearon_backup_timestamp_seconds > 0)) / 3600", "{value} hours old", "none"),
}


def status(job: host.Job) -> list[str]:
    """Return the lines of the screen."""
    return [_line(name, text) for name, text in [*_served(job), *_measured(job), *_pinned(job), *_deployed(job)]]


def _line(name: str, text: str) -> str:
    return f"{name:<12} {text}"


def _served(job: host.Job) -> list[tuple[str, str]]:
    records = {path.stem: path.read_text() for path in sorted(Path(job["path"]).parent.glob("*.conf"))}
    colours = [
        f"{name}: {' before '.join(dict.fromkeys(re.findall('# *(.*)$', text, re.M)))}"
        for name, text in records.items()
    ]
    return [("serving", ", ".join(colours) or "no colour")]


def _measured(job: host.Job) -> list[tuple[str, str]]:
    found = host.inspect(f"{job['project']}-prometheus-1")
    networks = found[0]["NetworkSettings"]["Networks"] if found else {}
    address = next((one["IPAddress"] for one in networks.values() if one["IPAddress"]), "")
    try:
        return [(name, _asked(address, *row)) for name, row in _ROWS.items()]
    except LookupError as error:
        return [("prometheus", f"does not answer: {error}")]


def _asked(address: str, query: str, words: str, absent: str) -> str:
    url = f"http://{address}:9090/api/v1/query?query={urllib.parse.quote(query)}"
    code, text = host.ask(url)
    if code != 200:
        raise LookupError(text or code)
    series: list[dict[str, Any]] = host.fields(text)["data"]["result"]
    said = [words.format_map({**one["metric"], "value": f"{float(one['value'][1]):.0f}"}) for one in series]
    return ", ".join(sorted(said)) or absent


def _pinned(job: host.Job) -> list[tuple[str, str]]:
    """Return the images of the services with their digests (roles/compose), and the safeguards that are not set."""
    records = [host.fields(path.read_text()) for path in sorted(Path(job["pins"]).glob("*.yml"))]
    images = {one["image"] for record in records for one in record["services"].values()}
    shown = [re.sub(r"(@sha256:[0-9a-f]{12})[0-9a-f]*$", r"\1", image) for image in sorted(images)]
    return [("images", ", ".join(shown) or "not pinned"), ("not set", "; ".join(job["gaps"]) or "nothing")]


def _deployed(job: host.Job) -> list[tuple[str, str]]:
    """Return who holds the lock and how the last deployments ended, the newest first."""
    held = host.fields(host.read(job["lock"]))
    running = [("deploying", "{why} by {who} on {host} since {when}".format_map(held))] if held else []
    ended = [host.fields(line) for line in reversed(host.read(job["log"]).splitlines()[-3:])]
    words = "{time} {why} by {who}, commit {commit}, {seconds} s: {result}"
    return running + ([("deployed", words.format_map(one)) for one in ended if one] or [("deployed", "never")])

"""Values of settings that have the right type and still cannot work, told by the name of the setting."""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

#: Settings by the end of their names, what fits the whole value, and its description.
SHAPES = (
    (r"_ports?", r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]", "a port from 1 to 65535"),
    (r"_memory_limit|_max_size", r"[1-9]\d*[kmgKMG]b?", "an amount with its unit, like 512m"),
    (r"_body_limit", r"[1-9]\d*[kmKM]", "an amount with its unit, like 16k"),
    (r"_maxmemory", r"[1-9]\d*[kmgKMG]b", "an amount with its unit, like 160mb"),
    (r"_rate", r"[1-9]\d*r/[sm]", "a number of requests by second or minute, like 5r/s or 10r/m"),
    (
        r"_tag",
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[0-9a-f]{64})?",
        "the tag of an image, like v1.4.0 or v1.4.0@sha256:...",
    ),
    (r"_image", r"[a-z0-9][a-z0-9._:/-]*", "the name of an image without its tag, in lower case"),
    (r"(?<!redis)_url", r"(https?://[^\s/]\S*)?", "an address that begins with https:// (or http://), or empty"),
    (r"_email|_email_to|_smtp_from", r"([^@\s,]+@[^@\s,]+\.[^@\s,]+)?", "an e-mail address like ops@example.com"),
    (r"_schedule", r"[A-Za-z0-9*,.:/~ -]+", "times as systemd writes them, like *-*-* 02:30"),
)
#: Numbers that may be 0: nothing of it, no wait, or no limit.
ZERO = re.compile(r"_(megabytes|wait_seconds|watch_seconds|burst|data_life_hours|percent|seconds|days|generations)$")
#: Values that may hold a secret are not repeated.
HIDDEN = re.compile(r"_(password|secret|token|key|url|key_id)$")
_TYPE_ERROR = re.compile(
    r"(?:argument|Elements value for option) '(\w+)' is of type (\w+) and we were unable to convert to (\w+): .*", re.S
)
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
}


def wrong_values(options: dict[str, dict[str, Any]], values: dict[str, Any]) -> list[str]:
    """Sentences about the values that cannot work; `options` are of a role's argument specs."""
    return [sentence for name in options if name in values for sentence in _wrong(name, options[name], values[name])]


def _wrong(name: str, option: dict[str, Any], value: Any) -> Iterator[str]:
    if value is None:
        yield f"{name} has no value: write one, or remove the line"
    elif wrong := _wrong_type(option["type"], value):
        yield f"{name} is {value if isinstance(value, int | float) else 'text'}; it must be {wrong}"
        return
    for one in value if isinstance(value, list | tuple) else [value]:
        yield from _wrong_one(name, option, one)


def _wrong_type(kind: str, value: Any) -> str:
    """Return what must stand in place of a value that Ansible can convert: templates use it as it is."""
    if kind in {"list", "dict"} and not isinstance(value, list | tuple if kind == "list" else dict):
        return _TYPES[kind]
    # Text that is not empty is true in a template. `-e` gives every value as text.
    if kind == "bool" and isinstance(value, str) and value.lower() != "true":
        return f"{_TYPES[kind]}, without quotation marks"
    return ""


def _wrong_one(name: str, option: dict[str, Any], value: Any) -> Iterator[str]:
    text, kind = str(value), option["type"]
    may_be_zero = option.get("default") == 0 or ZERO.search(name)
    if isinstance(value, str) and value != value.strip() and "\n" not in value.strip():  # a certificate has lines
        yield f"{name} begins or ends with a blank or a line break: remove that"
    elif kind == "str" and isinstance(value, float | int) and name.endswith("_tag"):
        yield f"{name} is the number {text}, and YAML shortens numbers (1.10 is 1.1): put it into quotation marks"
    elif kind == "int" and re.fullmatch(r"-\d+" if may_be_zero else r"-\d+|0", text):
        yield f"{name} is {text}; it must be {'0' if may_be_zero else '1'} or more"
    elif value is not None:
        for end, pattern, description in SHAPES:
            if re.search(f"({end})$", name) and not re.fullmatch(pattern, text):
                yield f"{name} is {'wrong' if HIDDEN.search(name) else text}; it must be {description}"


def unknown_settings(options: dict[str, Any], names: list[str], role: str) -> list[str]:
    """Sentences about variables that look like a setting of the role with a slip in its name."""
    found = []
    for name in sorted({*names} - {*options}):
        if name.startswith(f"{role}_") and (near := get_close_matches(name, options, 1, 0.85)):
            found.append(f"{name} is no setting; {near[0]} is (roles/{role}/meta/argument_specs.yml)")
    return found


def plain_types(sentences: list[str]) -> list[str]:
    """Ansible's sentences about types, without the names of its classes."""
    return [_TYPE_ERROR.sub(_plain, sentence).removeprefix("Task failed: ") for sentence in sentences]


def _plain(found: re.Match[str]) -> str:
    name, given, wanted = found.groups()
    given = "empty" if given == "NoneType" else _TYPES.get(given, given)
    return f"{name} is {given}; it must be {_TYPES.get(wanted, wanted)}"


class FilterModule:
    """Filters by their names."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"wrong_values": wrong_values, "unknown_settings": unknown_settings, "plain_types": plain_types}

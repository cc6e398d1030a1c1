"""The file of a manifest, CSV or JSON lines: read and checked whole before anything is queued."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from worker.errors import ImageRefused, WorkerError
from worker.generation.bulk.manifest import Manifest, Row
from worker.generation.message import MAX_IMAGES, MAX_MESSAGE_BYTES
from worker.photos.url import locate

MAX_BYTES = 200 * 1024 * 1024
MAX_ROWS = 50_000
_FIELDS = ("person", "garment", "accessories", "prompt", "reference", "consent_version", "age_verified")
_REFERENCE_CHARACTERS = 200
#: Name for the cells of a row that has more of them than line 1.
_BEYOND = "cells beyond the last column"


class ManifestInvalid(WorkerError):
    """The manifest cannot be used; the text has a line for each problem."""


def read(
    content: bytes, name: str, store_id: UUID, manifest_id: str | None = None, *, require_consent: bool = False
) -> Manifest:
    """The manifest of a file, whose id is that of its content unless one is given.

    Raises ManifestInvalid with every problem of every row. With `require_consent` a row without consent or a verified
    age is a problem, because workers would fail it.
    """
    digest = hashlib.sha256(store_id.bytes + content).hexdigest()
    problems: list[str] = []
    entries = _entries(content, name, problems)
    rows = [row for number, (line, fields) in enumerate(entries, 1) if (row := _row(number, line, fields, problems))]
    if not rows and not problems:
        problems.append(f"{name} has no rows")
    manifest = Manifest(store_id, manifest_id or digest[:16], digest, rows)
    if not problems:
        problems += [
            f"line {row.line}: {problem}" for row in rows for problem in _refusals(manifest, row, require_consent)
        ]
    if problems:
        raise ManifestInvalid("\n".join(["nothing was queued:", *problems]))
    return manifest


def _entries(content: bytes, name: str, problems: list[str]) -> list[tuple[int, dict[str, Any]]]:
    """Line and fields of each row."""
    if len(content) > MAX_BYTES:
        raise ManifestInvalid(f"{name} has {len(content):,} bytes; the limit is {MAX_BYTES:,}: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestInvalid(f"line {line}: the file is not UTF-8; save it as UTF-8") from None
    is_json = name.lower().endswith((".jsonl", ".ndjson"))
    found = _json_lines(text, problems) if is_json else _csv(text, name, problems)
    # All rows of a larger file, or all of its problems, may not fit into the container's memory.
    entries = list(islice(found, MAX_ROWS + 1))
    if max(len(entries), len(problems)) > MAX_ROWS:
        raise ManifestInvalid(f"{name} has more than {MAX_ROWS} rows, which is the limit: split it")
    return entries


def _json_lines(text: str, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, written in enumerate(io.StringIO(text, newline="\n"), 1):
        if len(problems) > MAX_ROWS:
            return
        if not written.strip():
            continue
        try:
            fields = json.loads(written)
        except (ValueError, RecursionError):
            fields = None
        if isinstance(fields, dict):
            yield line, fields
        else:
            problems.append(f"line {line}: no JSON object")


def _csv(text: str, name: str, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_MESSAGE_BYTES)
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=_BEYOND, restval="", strict=True)
    try:
        if not {"person", "garment"} <= set(reader.fieldnames or ()):
            raise ManifestInvalid(f"line 1: {name} must begin with the columns person,garment; it has none or others")
        if twice := {column for column, count in Counter(reader.fieldnames or ()).items() if count > 1}:
            raise ManifestInvalid(f"line 1: {name} has two columns {min(twice)!r}; remove one")
        for fields in reader:
            cells = {column: cell for column, cell in fields.items() if cell}
            if "accessories" in cells:
                cells["accessories"] = cells["accessories"].split()
            if (said := cells.get("age_verified", "").lower()) in ("true", "false"):
                cells["age_verified"] = said == "true"
            yield reader.line_num, cells
    except csv.Error as error:
        problems.append(f"line {reader.reader.line_num}: {error}")


def _row(number: int, line: int, fields: dict[str, Any], problems: list[str]) -> Row | None:
    before = len(problems)
    if fields.pop(_BEYOND, None):
        problems.append(f"line {line}: more cells than columns; put a text that has a comma into quotes")
    unknown = ", ".join(sorted(repr(str(name))[:60] for name in fields if name not in _FIELDS))
    if unknown:
        problems.append(f"line {line}: unknown fields {unknown}; known ones are {', '.join(_FIELDS)}")
    accessories = fields.get("accessories") or []
    if not isinstance(accessories, list):
        accessories = [None]
    urls = [fields.get("person"), fields.get("garment"), *accessories]
    texts = [fields.get("prompt") or "", fields.get("reference") or ""]
    for name, value in zip(("person", "garment"), urls, strict=False):
        if not isinstance(value, str) or not value:
            problems.append(f"line {line}: {name} is missing; it must be the address of a photo")
    if not all(isinstance(url, str) for url in accessories):
        problems.append(f"line {line}: accessories must be addresses (JSON: a list, CSV: with spaces between)")
    if not all(isinstance(text, str) for text in texts):
        problems.append(f"line {line}: prompt and reference must be texts")
    elif not all(map(_is_storable, texts)):
        problems.append(f"line {line}: prompt or reference has a NUL or half a character (lone surrogate)")
    elif len(texts[1]) > _REFERENCE_CHARACTERS:
        problems.append(f"line {line}: reference has {len(texts[1])} characters; the limit is {_REFERENCE_CHARACTERS}")
    if len(problems) > before:
        return None
    return Row(number, line, tuple(urls), texts[0], texts[1], fields.get("consent_version"), fields.get("age_verified"))


def _is_storable(text: str) -> bool:
    """Return False for a text that PostgreSQL refuses, after the credit was taken, or that no file takes."""
    return "\0" not in text and not any("\ud800" <= it <= "\udfff" for it in text)


def _refusals(manifest: Manifest, row: Row, require_consent: bool) -> Iterator[str]:
    """The reasons for which a worker would refuse the row's message."""
    if len(row.urls) > MAX_IMAGES:
        yield f"{len(row.urls)} photos; the limit is {MAX_IMAGES}"
        return
    for place, url in enumerate(row.urls):
        try:
            locate(url)
        except ImageRefused as error:
            yield f"{_FIELDS[min(place, 2)]}: {error}"
    try:
        message = manifest.message(row)
        size = len(message.model_dump_json(exclude_none=True))
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, it['loc']))}: {it['msg']}" for it in error.errors())
    else:
        if size > MAX_MESSAGE_BYTES:
            yield f"its message has {size} bytes; the limit is {MAX_MESSAGE_BYTES}"
        if require_consent and not message.consents:
            yield "consent_version is missing or age_verified is not true; REQUIRE_CONSENT asks for both"

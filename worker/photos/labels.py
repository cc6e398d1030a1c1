"""The headers of a photo host's answer: what they rule out before the bytes decide."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Labels that say plainly that there is no picture. Any other may stand on a picture: uploads without a type get
#: application/octet-stream, text/plain, a form's type, `image`, image/* or none, and the decoder is strict.
_CLEARLY_OTHER = (
    *("text/", "video/", "audio/", "font/", "model/", "message/", "application/vnd."),
    *("application/json", "application/xml", "application/pdf", "application/javascript", "application/rtf"),
    *("application/zip", "application/gzip", "application/x-gzip", "application/x-tar", "application/wasm"),
)
_OTHER_SUFFIXES = ("+json", "+xml", "+zip", "+gzip")
_PLAIN_TEXT = "text/plain"

#: What hosts write into Content-Encoding although nothing is compressed: framing, charsets, habits.
_NO_COMPRESSION = frozenset(
    {
        *("", "identity", "none", "null", "undefined", "false", "default", "unknown", "raw"),
        *("aws-chunked", "chunked", "binary", "8bit", "7bit"),
        *("utf-8", "utf8", "utf-16", "ascii", "us-ascii", "iso-8859-1", "latin1", "windows-1252"),
        *("jpeg", "jpg", "png", "webp", "avif", "heic", "heif"),
    }
)


def other_kind(content_type: str) -> str | None:
    """The type that the label names, when it is clearly no picture."""
    kind = content_type.split(",", maxsplit=1)[0].split(";", maxsplit=1)[0].strip().lower()
    other = kind.startswith(_CLEARLY_OTHER) or kind.endswith(_OTHER_SUFFIXES)
    return kind if other and kind != _PLAIN_TEXT else None


def compression(encodings: Iterable[str]) -> str | None:
    """The first coding of the Content-Encoding headers that changes the bytes; a media type is none."""
    codings = (coding.strip(" \t\"'").lower() for value in encodings for coding in value.split(","))
    return next((coding for coding in codings if coding not in _NO_COMPRESSION and "/" not in coding), None)


def retry_after_seconds(value: str) -> float:
    """Seconds that the host asks for, as a number or until a date; 0 when it says nothing that can be read."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        until = parsedate_to_datetime(value)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return 0.0

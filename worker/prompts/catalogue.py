"""The prompt versions of this package: a file `texts/<id>.txt` each, with the day of the version above its text."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).parent
#: The worker's own prompt, for a message that brings none.
DEFAULT = "worker-1"
#: In an experiment: the prompt of the message, as without an experiment.
AS_SENT = "as-sent"
#: The app's default texts begin so.
_APP_BEGINS = "virtual try-on: using the provided images:"
#: Invisible characters that editors and forms leave behind: soft hyphen, zero-width, direction and byte order marks.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
#: Longer texts are no default, and would cost time to normalise.
_NORMALISED_MAX = 4000


@dataclass(frozen=True)
class Prompt:
    """One version. A text never changes under its id: a change is a new file."""

    id: str
    day: date
    text: str


@cache
def versions() -> dict[str, Prompt]:
    """All versions by id."""
    return {path.stem: _read(path) for path in sorted((_FOLDER / "texts").glob("*.txt"))}


@cache
def app_defaults() -> frozenset[str]:
    """Names of the app's default texts."""
    lines = (_FOLDER / "app_defaults.txt").read_text().splitlines()
    return frozenset(line.split()[0] for line in lines if line and not line.startswith("#"))


def known_ids() -> list[str]:
    """Ids that an experiment may name."""
    return [*versions(), AS_SENT]


def name(sent: str) -> str:
    """Name of a message's prompt as it is used without an experiment: a version, or a digest that hides the text.

    Texts that differ only in whitespace, invisible characters, Unicode forms or case have one name, unless very long.
    """
    plain = _plain(sent)
    return f"message-{sha256(plain.encode(errors='replace')).hexdigest()[:8]}" if plain else DEFAULT


def is_like_the_apps(sent: str) -> bool:
    """Return True for a text that begins as the app's default does: it may be a newer default."""
    return _plain(sent[:_NORMALISED_MAX]).startswith(_APP_BEGINS)


def _plain(text: str) -> str:
    if len(text) > _NORMALISED_MAX:
        return text.strip()
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split())


def _read(path: Path) -> Prompt:
    first, _, text = path.read_text().partition("\n")
    return Prompt(path.stem, date.fromisoformat(first.removeprefix("date:").strip()), text.strip())

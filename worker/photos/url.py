"""A customer's URL taken apart and written anew, so that nothing in it can mean two things to two readers."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

from worker.errors import ImageRefused
from worker.photos.hosts import canonical_host

MAX_URL_LENGTH = 8192

_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_BRACKETED = re.compile(r"\[[0-9a-fA-F:.]+\](:[0-9]*)?")
_PATH_SAFE = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True)
class Location:
    """A URL taken apart; what is connected to, asked for and written into Host are these parts and nothing else."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The form of `settings.addresses.origin`."""
        return f"{self.scheme}://{self.host}:{self.port}"


def locate(url: str) -> Location:
    """Take `url` apart; raises ImageRefused, without the URL in its text, for anything but a plain http(s) URL."""
    if len(url) > MAX_URL_LENGTH:
        raise ImageRefused(f"URL has {len(url)} characters; the limit is {MAX_URL_LENGTH}.")
    if _FORBIDDEN.search(url) or url != url.strip():
        raise ImageRefused("URL contains control characters, backslashes or white space around it.")
    try:
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS:
            raise ImageRefused("URL is neither http nor https.")
        if "@" in parts.netloc:
            raise ImageRefused("URL contains credentials.")
        port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        if port == 0:
            raise ImageRefused("URL names port 0.")
        return Location(parts.scheme, _host(parts), port, _target(parts))
    except ValueError:
        raise ImageRefused("URL cannot be parsed, or its host is no valid name or address.") from None


def _host(parts: SplitResult) -> str:
    if ("[" in parts.netloc or "]" in parts.netloc) and not _BRACKETED.fullmatch(parts.netloc):
        raise ImageRefused("URL has a malformed IPv6 address or names a zone.")
    return canonical_host(parts.hostname or "")


def _target(parts: SplitResult) -> str:
    """Path and query; encoded characters stay as they are, others ("my photo.jpg") are encoded as browsers do."""
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    return path + "?" + quote(parts.query, safe=_PATH_SAFE + "?") if parts.query else path

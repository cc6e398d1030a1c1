"""A customer's URL taken apart and written anew, so that nothing in it can mean two things to two readers."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, quote, urlsplit

from worker.errors import ImageRefused

MAX_URL_LENGTH = 8192
MAX_HOST_LENGTH = 254

_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: The WHATWG rule for "this host is meant to be an IPv4 number": 127.1, 0x7f.1, 017700000001, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
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
        """The form of `settings.origin`."""
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
        raise ImageRefused("URL cannot be parsed, or its host is an address in an unusual spelling.") from None


def _host(parts: SplitResult) -> str:
    """The host as it goes on the wire: ASCII, lower case, canonical if it is an address, no trailing dot."""
    if "[" in parts.netloc or "]" in parts.netloc:
        if not _BRACKETED.fullmatch(parts.netloc):
            raise ImageRefused("URL has a malformed IPv6 address or names a zone.")
        return str(IPv6Address(parts.hostname))
    host = parts.hostname or ""
    if len(host) > MAX_HOST_LENGTH:
        raise ImageRefused(f"URL has a host of {len(host)} characters; the limit is {MAX_HOST_LENGTH}.")
    host = host.encode("idna").decode("ascii").lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(IPv4Address(host))
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ImageRefused("URL has no valid host name.")
    return host


def _target(parts: SplitResult) -> str:
    """Path and query; encoded characters stay as they are, others ("my photo.jpg") are encoded as browsers do."""
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    return path + "?" + quote(parts.query, safe=_PATH_SAFE + "?") if parts.query else path

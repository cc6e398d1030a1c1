"""Host names in the one form that is compared, resolved, sent as Host and checked in certificates."""

import re
from ipaddress import IPv4Address, IPv6Address

import idna

MAX_HOST_LENGTH = 254

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: The WHATWG rule for "this host is meant to be an IPv4 number": 127.1, 0x7f.1, 017700000001, 2130706433.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def canonical_host(name: str) -> str:
    """ASCII, lower case, canonical if it is an address, without a trailing dot; raises ValueError if it is no host.

    Mapped by UTS 46, non-transitional, as browsers do: underscores and emoji pass, `ß` is not `ss`.
    """
    if ":" in name:
        return str(IPv6Address(name))
    if len(name) > MAX_HOST_LENGTH:
        raise ValueError(f"host has {len(name)} characters; the limit is {MAX_HOST_LENGTH}")
    # Not `idna.encode`: that is IDNA 2008, which registries follow and browsers do not.
    mapped = idna.uts46_remap(name, std3_rules=False, transitional=False).removesuffix(".")
    labels = [_ascii(label) for label in mapped.split(".")]
    host = ".".join(labels)
    if _NUMBER.fullmatch(labels[-1]):
        return str(IPv4Address(host))
    if not all(_LABEL.fullmatch(label) for label in labels) or len(host) >= MAX_HOST_LENGTH:
        raise ValueError("no valid host name")
    return host


def _ascii(label: str) -> str:
    return label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")

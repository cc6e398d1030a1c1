"""Addresses in the settings: Redis, HTTP services and origins, each as a sentence for the operator when it is wrong."""

import re
from urllib.parse import parse_qsl, urlsplit

from worker.photos.hosts import canonical_host
from worker.settings.networks import is_public


def printable(value: str) -> str:
    """The value without surrounding blanks, if a header or a host name can carry it; raises ValueError."""
    value = value.strip()
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be printable ASCII without spaces; copy it again")
    return value


def read_http(value: str) -> str:
    """The address of a service, without a slash at its end; raises ValueError."""
    return _url(value, {"http", "https"}, "https://host").rstrip("/")


def read_origin(value: str) -> str:
    """The origin of an address; raises ValueError."""
    return origin(_url(value, {"http", "https"}, "https://host:port"))


def read_redis(value: str) -> str:
    """The address of a Redis, without surrounding blanks; raises ValueError.

    Over the internet it has to be encrypted; a name is looked up by `doctor` only.
    """
    url = _url(value, {"redis", "rediss"}, "redis://user:password@host:6379/0")
    parts = urlsplit(url)
    if not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError("its path must be the number of a database like /0, or nothing")
    if parts.query and not _can_be_used(url):
        raise ValueError("after ? only rediss:// may have options, like ssl_cert_reqs=required; leave out all others")
    if parts.scheme == "redis" and is_public(canonical_host(parts.hostname or "")):
        raise ValueError("over the internet it must be encrypted: use rediss://, or a private address")
    return url


def origin(url: str) -> str:
    """`scheme://host:port`: the canonical host, and the port always written out."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{canonical_host(parts.hostname or '')}:{port}"


def _url(value: str, schemes: set[str], example: str) -> str:
    value = printable(value)
    if "#" in value:
        # The beginning of the password would be the port, and be shown.
        raise ValueError("must have no #; write one in a password as %23")
    try:
        parts = urlsplit(value)
        canonical_host(parts.hostname or "")
        valid = parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"must be a URL like {example}")
    return parts.scheme + value[len(parts.scheme) :]  # in small letters: the clients tell TLS by it


def _can_be_used(url: str) -> bool:
    """Tell if both Redis clients, redis-py and Celery's, can use what follows the host."""
    from redis.asyncio import ConnectionPool, RedisError  # noqa: PLC0415  # slow to import, and hardly ever needed

    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # connects to nothing
        return all(name.startswith("ssl_") for name, _ in parse_qsl(urlsplit(url).query))
    except (RedisError, TypeError, ValueError):
        return False

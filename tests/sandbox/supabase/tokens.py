"""The API keys and signed URLs of the Supabase gateway: HS256 JSON Web Tokens, and the keys that are none."""

import base64
import hashlib
import hmac
import json
from time import time
from typing import Any, Literal


class TokenError(Exception):
    """The token is not ours, was changed, or has expired; the text is what Supabase says."""


def sign(payload: dict[str, Any], secret: str) -> str:
    """A token that `verify` accepts."""
    head = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(payload)}"
    return f"{head}.{_signature(head, secret)}"


def verify(token: str, secret: str) -> dict[str, Any]:
    """The payload; raises TokenError when it is not valid now."""
    head, _, signature = token.rpartition(".")
    if head.count(".") != 1:
        raise TokenError("Invalid Compact JWS")
    if not hmac.compare_digest(signature, _signature(head, secret)):
        raise TokenError("signature verification failed")
    payload: dict[str, Any] = json.loads(_decode(head.split(".")[1]))
    if payload.get("exp", time() + 1) <= time():
        raise TokenError('"exp" claim timestamp check failed')
    return payload


def api_key(kind: Literal["secret", "publishable"], secret: str) -> str:
    """Today's kind of key, which is no JWT: `sb_<kind>_` with random letters and a checksum."""
    letters = _base64(hashlib.sha256(f"{kind} {secret}".encode()).digest())
    return f"sb_{kind}_{letters[:22]}_{letters[22:30]}"


def _signature(head: str, secret: str) -> str:
    return _base64(hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest())


def _encode(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))

"""The API keys and signed URLs of the Supabase gateway: JSON Web Tokens, and the keys that are none."""

import base64
import hashlib
from typing import Any, Literal

import jwt

_ALGORITHM = "HS256"


class TokenError(Exception):
    """The token has another signature or form, or is expired; the text is Supabase's."""


def sign(payload: dict[str, Any], secret: str) -> str:
    """A token that `verify` accepts."""
    return jwt.encode(payload, secret, _ALGORITHM)


def verify(token: str, secret: str) -> dict[str, Any]:
    """The payload of a token that is valid now; raises TokenError."""
    try:
        return jwt.decode(token, secret, [_ALGORITHM])
    except jwt.ExpiredSignatureError:
        raise TokenError('"exp" claim timestamp check failed') from None
    except jwt.InvalidSignatureError:
        raise TokenError("signature verification failed") from None
    except jwt.InvalidTokenError:
        raise TokenError("Invalid Compact JWS") from None


def api_key(kind: Literal["secret", "publishable"], secret: str) -> str:
    """Today's kind of key, which is no JWT: `sb_<kind>_` with random letters and a checksum."""
    letters = base64.urlsafe_b64encode(hashlib.sha256(f"{kind} {secret}".encode()).digest()).decode()
    return f"sb_{kind}_{letters[:22]}_{letters[22:30]}"

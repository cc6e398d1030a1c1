"""The key of Supabase: refused at the start if it is surely not the service role's."""

import base64
import json

_REMEDY = "use the project's secret key (sb_secret_..., or the JWT service_role) from Settings > API Keys"


def is_jwt(key: str) -> bool:
    """Return True for a key that is a JSON Web Token, the kind that Supabase ends with 2026."""
    return key.count(".") == 2


def read_service_key(key: str) -> str:
    """The key; raises ValueError, whose text does not repeat it, for a key of another kind."""
    if key.startswith("sb_publishable_"):
        raise ValueError(f"it is a publishable key, which may not change sessions; {_REMEDY}")
    if key.startswith("sbp_"):
        raise ValueError(f"it is a personal access token of the dashboard; {_REMEDY}")
    if (role := _role(key)) in ("anon", "authenticated"):
        raise ValueError(f"it is a JWT of the role {role}, which may not change sessions; {_REMEDY}")
    return key


def _role(key: str) -> object:
    if not is_jwt(key):
        return None
    payload = key.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return None
    return claims.get("role") if isinstance(claims, dict) else None

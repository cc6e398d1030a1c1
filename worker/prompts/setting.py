"""The settings of an experiment, as JSON: what an operator may get wrong is one sentence with the remedy."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from worker.prompts import catalogue

Weights = dict[str, float]
_HEAVIEST = 1e6
#: Of a wrong value.
_SHOWN = 60


def read_weights(value: object) -> Weights:
    """Weights as JSON, such as `{"2026-12-a": 90, "2026-12-b": 10}`; raises ValueError with a sentence."""
    return _weights(read_object(value, '{"2026-12-a": 90, "2026-12-b": 10}'))


def read_stores(value: object) -> dict[UUID, Weights]:
    """Read a version, or weights, for each store's id; raise ValueError with a sentence."""
    read: dict[UUID, Weights] = {}
    for store, what in read_object(value, '{"<id of the store>": "2026-12-a"}').items():
        try:
            key = UUID(store)
        except ValueError:
            raise ValueError(f"{_shown(store)} is no id of a store, which is a UUID") from None
        if key in read:
            raise ValueError(f"the store {key} is named twice; leave one of them out")
        read[key] = _weights({what: 1} if isinstance(what, str) else read_object(what, '{"2026-12-a": 1}'))
        if not read[key]:
            raise ValueError(f"the store {key} has no version; name one, or leave the store out")
    return read


def read_defaults(value: object) -> list[str]:
    """Names such as `message-1a2b3c4d`, separated by commas; raises ValueError with a sentence."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("must be names like message-1a2b3c4d, separated by commas")
    read = [name.strip() for name in names if name.strip()]
    for name in read:
        if not re.fullmatch(r"message-[0-9a-f]{8}", name):
            raise ValueError(
                f"{_shown(name)} is no name of a text; it must be like message-1a2b3c4d: "
                "take it from `wearon-worker prompts compare`"
            )
    return read


def read_object(value: object, example: str) -> dict[str, Any]:
    """A JSON object that names nothing twice; raises ValueError with a sentence that shows the example."""
    try:
        read = json.loads(value, object_pairs_hook=_unique) if isinstance(value, str) else value
    except _NamedTwiceError:
        raise
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise ValueError(f"must be a JSON object, such as {example}")  # noqa: TRY004  # pydantic reports ValueError only
    return read


def _weights(value: Mapping[str, object]) -> Weights:
    weights: Weights = {}
    for version, weight in value.items():
        if version not in catalogue.known_ids():
            known = ", ".join(catalogue.known_ids())
            raise ValueError(
                f"the version {_shown(version)} is unknown; this worker has {known}: "
                "correct the id, or roll out a worker that has the version"
            )
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= _HEAVIEST:
            raise ValueError(
                f"the weight of {version} is {_shown(weight)}; it must be a number from 0 to {_HEAVIEST:g}"
            )
        weights[version] = float(weight)
    if weights and not any(weights.values()):
        raise ValueError("all weights are 0; give one version a weight, or leave the setting out")
    return weights


class _NamedTwiceError(ValueError):
    """JSON with one name for two values, of which a reader would take the last."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NamedTwiceError(f"{_shown(twice)} is named twice; leave one of them out")
    return read


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]

"""Settings that are more than a number or a word: tables as JSON, lists, names."""

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import partial

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from worker.prompts.setting import read_object

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REGION = re.compile(r"[a-z0-9](-?[a-z0-9]){0,31}")
_LIGHTEST, _HEAVIEST = 0.01, 100.0


class ApiKey(BaseModel):
    """A client's key to the size API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    per_minute: int = Field(default=600, ge=1, le=1_000_000)


class Budget(BaseModel):
    """Limits of the spend in USD, by UTC day and month; None: no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Decimal | None = Field(default=None, ge=0, le=1_000_000)
    month: Decimal | None = Field(default=None, ge=0, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _periods(cls, value: object) -> object:
        if not isinstance(value, dict | cls):
            raise ValueError('must be limits by day and month, such as {"day": 50}')  # noqa: TRY004  # as pydantic wants
        return value


def as_json(example: str) -> BeforeValidator:
    """Read a table as one JSON object."""
    return BeforeValidator(partial(read_object, example=example))


def split(value: object) -> object:
    """Read a list that is separated by commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def read_region(value: str) -> str:
    """The name of a region; raises ValueError."""
    if value and not _REGION.fullmatch(value):
        raise ValueError("must be 1 to 32 small letters, digits and single hyphens between them, such as eu-west")
    return value


def read_lane_weights(value: dict[str, float]) -> dict[str, float]:
    """Weights by lane; raises ValueError."""
    _check_payers(value, "lane", "b2c", "store")
    for lane, weight in value.items():
        if not _LIGHTEST <= weight <= _HEAVIEST:
            raise ValueError(f"the weight of {lane} is {weight:g}; it must be {_LIGHTEST:g} to {_HEAVIEST:g}")
    return value


def read_budgets(value: dict[str, Budget]) -> dict[str, Budget]:
    """Budgets by scope; raises ValueError."""
    _check_payers(value, "scope", "all", "b2c", "store")
    return value


def _check_payers(names: Iterable[str], kind: str, *known: str) -> None:
    for name in names:
        if name not in known and not _UUID.fullmatch(name):
            words = f"{', '.join(known[:-1])} nor {known[-1]}"
            raise ValueError(f"the {kind} {name!r} is neither {words} nor a store's id in small letters")

"""Memory limits of the services of a host."""

import re
from collections.abc import Callable
from typing import Any

import yaml

#: Factors of a limit's unit to MB.
UNITS = {"k": 1 / 1024, "m": 1, "g": 1024}


def memory_limits(specs: list[str], given: dict[str, Any], small: bool) -> dict[str, int]:
    """Each setting `*_memory_limit` in MB; `specs` are argument specs of roles, `given` settings of the inventory."""
    options: dict[str, dict[str, Any]] = {}
    for text in specs:
        options |= yaml.safe_load(text)["argument_specs"]["main"].get("options", {})
    names = [name for name in options if name.endswith("_memory_limit")]
    return {name: _megabytes(str(given.get(name, _default(options[name]["default"], small)))) for name in names}


def _default(text: str, small: bool) -> str:
    """Value of a default like `{{ '608m' if small_stack else '800m' }}`: Ansible fills in no text of a file."""
    choices = re.findall(r"'(\w+)'", text)
    return choices[0 if small else 1] if choices else text


def _megabytes(limit: str) -> int:
    amount, unit = re.fullmatch(r"(\d+)([kmg])b?", limit.lower()).groups()  # type: ignore[union-attr]
    return round(int(amount) * UNITS[unit])


class FilterModule:
    """Filters by their names."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"memory_limits": memory_limits}

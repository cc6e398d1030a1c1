"""The container's memory, read from files like the kernel's."""

from pathlib import Path

import pytest

from worker import memory
from worker.memory import HighWater


def group(root: Path, *, used: int, cache: int, limit: str = "1000", version: int = 2) -> Path:
    names = ("memory.max", "memory.current", "memory.stat", "inactive_file")
    if version == 1:
        names = (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        )
        (root / "memory").mkdir(exist_ok=True)
    (root / names[0]).write_text(f"{limit}\n")
    (root / names[1]).write_text(f"{used}\n")
    (root / names[2]).write_text(f"anon 1\n{names[3]} {cache}\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_cache_that_the_kernel_can_drop_does_not_count(tmp_path: Path, version: int) -> None:
    group(tmp_path, used=900, cache=300, version=version)
    assert (memory.limit_bytes(tmp_path), memory.used_bytes(tmp_path)) == (1000, 600)


def test_without_a_limit_the_hosts_memory_counts(tmp_path: Path) -> None:
    assert memory.limit_bytes(group(tmp_path, used=1, cache=0, limit="max")) > 100_000_000


def test_no_message_is_taken_above_the_mark_until_memory_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_AGAIN_SECONDS", 0)
    high = HighWater(0.9, group(tmp_path, used=901, cache=0))
    assert high.reached()
    group(tmp_path, used=950, cache=100)
    assert not high.reached()


def test_a_kernel_that_says_nothing_stops_nothing(tmp_path: Path) -> None:
    assert memory.used_bytes(tmp_path) is None
    assert not HighWater(0.9, tmp_path).reached()

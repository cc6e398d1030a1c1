"""The byte budget: no generation waits for another one's pictures for ever, and none overtakes."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from worker.generation.byte_budget import ByteBudget, limit
from worker.settings import Settings


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(budget: ByteBudget, parts: int, got: asyncio.Event, leave: asyncio.Event) -> None:
    async with budget.reserve(parts, 10):
        got.set()
        await leave.wait()


async def test_a_generation_waits_until_the_others_hold_less() -> None:
    budget = ByteBudget(100)
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(budget.reserve(8, 10))
        got, leave = asyncio.Event(), asyncio.Event()
        waiting = asyncio.create_task(hold(budget, 3, got, leave))
        await settle()
        assert not got.is_set()
        held.change(0, 0)
        await settle()
        assert got.is_set()
        leave.set()
        await waiting


async def test_a_message_with_many_pictures_is_not_overtaken_by_smaller_ones() -> None:
    budget, order, leave = ByteBudget(100), list[int](), asyncio.Event()

    async def use(parts: int) -> None:
        async with budget.reserve(parts, 10):
            order.append(parts)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        async with budget.reserve(5, 10):
            for parts in (9, 1, 1):
                group.create_task(use(parts))
                await settle()
            assert order == []
        await settle()
        assert order == [9, 1]
        leave.set()
    assert order == [9, 1, 1]


async def test_a_message_that_needs_more_than_there_is_gets_all_of_it_and_runs_alone() -> None:
    budget = ByteBudget(100)
    async with budget.reserve(16, 10):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), budget.reserve(1, 5):
                pass
    async with budget.reserve(10, 10):
        pass


async def test_a_wait_that_is_cancelled_leaves_the_budget_to_those_behind() -> None:
    budget = ByteBudget(100)
    got, leave = asyncio.Event(), asyncio.Event()
    async with budget.reserve(8, 10):
        first = asyncio.create_task(hold(budget, 10, asyncio.Event(), leave))
        second = asyncio.create_task(hold(budget, 2, got, leave))
        await settle()
        first.cancel()
        await settle()
        assert got.is_set()
        leave.set()
        await second
    async with asyncio.timeout(1), budget.reserve(10, 10):
        pass


async def test_bytes_that_are_in_memory_already_count_without_a_wait() -> None:
    budget = ByteBudget(100)
    async with budget.reserve(10, 10) as held:
        held.replace(500)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), budget.reserve(1, 1):
                pass
        held.replace(99)
        async with asyncio.timeout(1), budget.reserve(1, 1):
            pass


def test_the_setting_counts_before_the_containers_limit(settings: Settings) -> None:
    assert limit(settings.model_copy(update={"generation_memory_bytes": 123})) == 123
    assert limit(settings) >= 64_000_000

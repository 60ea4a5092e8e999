"""The loop under the simulation keeps what it promises."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.simulation.loop import Loop, SimulationStuck


def loop_of(seed: int = 0) -> Loop:
    return Loop(random.Random(seed))  # type: ignore[abstract]


def test_time_jumps_to_the_next_timer() -> None:
    loop = loop_of()

    async def sleeps() -> float:
        await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    assert loop.run(sleeps()) == 3_600


def test_a_deadline_passes_in_virtual_time() -> None:
    loop = loop_of()

    async def waits() -> None:
        async with asyncio.timeout(30):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run(waits())
    assert loop.time() == 30


def test_a_killed_process_runs_not_even_its_finally() -> None:
    loop, done = loop_of(), []
    process = loop.process("victim")

    async def victim() -> None:
        try:
            await asyncio.sleep(2)
            done.append("slept")
        finally:
            if not process.is_dead:
                done.append("cleaned up")

    async def main() -> None:
        loop.spawn(process, victim(), "victim")
        await asyncio.sleep(1)
        loop.kill(process)
        await asyncio.sleep(5)

    loop.run(main())
    assert not done


def test_a_paused_process_does_late_what_was_due_meanwhile() -> None:
    loop, at = loop_of(), []
    process = loop.process("sleeper")

    async def sleeper() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            at.append(loop.time())

    async def main() -> None:
        loop.spawn(process, sleeper(), "sleeper")
        await asyncio.sleep(1.5)
        process.is_paused = True
        await asyncio.sleep(8.5)
        process.is_paused = False
        await asyncio.sleep(5)

    loop.run(main())
    assert at[0] == 1
    assert at[1] >= 10


def test_processes_interleave_as_the_seed_says_and_each_keeps_its_order() -> None:
    def order(seed: int) -> list[str]:
        loop, found = loop_of(seed), []

        async def work(name: str) -> None:
            for step in range(5):
                found.append(f"{name}{step}")
                await asyncio.sleep(0)

        async def main() -> None:
            for name in "ab":
                loop.spawn(loop.process(name), work(name), name)
            await asyncio.sleep(1)

        loop.run(main())
        return found

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(10)}) > 5
    for seed in range(10):
        assert [one for one in order(seed) if one[0] == "a"] == [f"a{n}" for n in range(5)]


def test_waiting_for_nothing_is_an_error() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationStuck, match="nothing is left"):
        loop_of().run(forever())


def test_never_waiting_is_an_error() -> None:
    async def spins() -> None:
        for _ in iter(int, 1):
            await asyncio.sleep(0)

    with pytest.raises(SimulationStuck, match="never waits"):
        loop_of().run(spins())

"""Many runs, on all cores; or one, told step by step.

    python -m tests.simulation.seeds --seeds 10000          from seed 0 on
    python -m tests.simulation.seeds --seed 17              this one, with every step
    python -m tests.simulation.seeds --seed 17 --without "CRC"      with a safeguard taken out

Exit status 1 if an invariant failed. A failing seed is printed with the command that replays it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from types import FrameType
from typing import NamedTuple

from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Run

_TOGETHER = 25
_REAL_S = 120
"""No run takes a second; one that takes this long has a loop that never waits."""
_TELL_EVERY_S = 10.0
_SHOWN = 20


class Failed(NamedTuple):
    """A seed with an invariant that does not hold."""

    seed: int
    profile: str
    violations: list[str]


class Report(NamedTuple):
    """What came of some seeds."""

    seeds: int
    failed: list[Failed]
    injected: Counter[str]
    virtual_s: float
    steps: int


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.seeds")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="one seed, every step of it")
    parser.add_argument("--without", choices=sorted(MUTATIONS), help="take out this safeguard")
    given = parser.parse_args()
    if given.seed is not None:
        return _tell_one(given.seed, given.without)
    return _run_many(given.first, given.seeds, max(1, given.jobs))


def command(seed: int) -> str:
    """The command that replays a seed, step by step."""
    return f"replay: .venv/bin/python -m tests.simulation.seeds --seed {seed}"


def _tell_one(seed: int, without: str | None) -> int:
    mutation = MUTATIONS[without] if without else None
    verdict = Run(seed, without=mutation, tell=_say).verdict()
    _say(
        f"seed {seed} ({verdict.profile}): {verdict.virtual_s:.1f} simulated seconds, {verdict.steps} steps; "
        f"faults: {_listed(verdict.injected) or 'none'}"
    )
    for violation in verdict.violations:
        _say(f"BROKEN {violation}")
    return int(bool(verdict.violations))


def _run_many(first: int, count: int, jobs: int) -> int:
    started = told = time.monotonic()
    done, failed, steps = 0, 0, 0
    virtual_s = 0.0
    injected: Counter[str] = Counter()
    parts = [
        range(s, min(s + _TOGETHER, first + count)) for s in range(first, first + count, _TOGETHER)
    ]
    with ProcessPoolExecutor(jobs, initializer=_begin) as pool:
        for future in as_completed([pool.submit(_some, part) for part in parts]):
            report = future.result()
            done += report.seeds
            steps += report.steps
            virtual_s += report.virtual_s
            injected += report.injected
            for one in report.failed:
                failed += 1
                if failed <= _SHOWN:
                    _say(f"seed {one.seed} ({one.profile}) fails:")
                    for violation in one.violations[:3]:
                        _say(f"    {violation[:300]}")
                    _say(f"    {command(one.seed)}")
            now = time.monotonic()
            if now - told >= _TELL_EVERY_S or done == count:
                told = now
                rate = done / (now - started)
                _say(
                    f"{done} of {count} seeds, {failed} failed, {rate:.1f} a second, "
                    f"{(count - done) / rate:.0f} s to go"
                )
    _say(
        f"{count} seeds, {failed} failed; {virtual_s / 3600:.1f} simulated hours in "
        f"{time.monotonic() - started:.0f} s, {steps} steps; faults injected: {sum(injected.values())}"
    )
    for name, number in injected.most_common():
        _say(f"    {number:8d}  {name}")
    return int(failed > 0)


def _begin() -> None:
    """A run makes a hundred thousand objects and drops them all at its end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def _some(seeds: range) -> Report:
    failed: list[Failed] = []
    injected: Counter[str] = Counter()
    virtual_s, steps = 0.0, 0
    for seed in seeds:
        try:
            with _limited(_REAL_S):
                verdict = Run(seed).verdict()
        except Exception:  # noqa: BLE001 - a fault of the rig is shown like one of the engine
            failed.append(Failed(seed, "?", [traceback.format_exc()[-600:]]))
            continue
        injected += verdict.injected
        virtual_s += verdict.virtual_s
        steps += verdict.steps
        if verdict.violations:
            failed.append(Failed(seed, verdict.profile, list(map(str, verdict.violations))))
    return Report(len(seeds), failed, injected, virtual_s, steps)


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s: a loop that never waits?")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

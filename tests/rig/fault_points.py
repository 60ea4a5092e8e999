"""A worker with a fault at one exact step of a checkpoint or a takeover. Run as a program:

    HEARTLINE_TEST_FAULT=kill@marker-sent:2 python fault_points.py -m agents.cli worker

It starts the module named after `-m` like `python -m` does, in this process, with a thin skin around the two
ways by which a worker changes Kafka: `Publisher.publish` and `Consumer.commit_offsets`. The worker's own code
has no hook, so no fault can ever fire in production. A step is told by the records that pass:

    claim-due        a claim is about to be sent         claim-sent         ... is acknowledged
    letters-due      dead letters, late records          letters-sent
    chunks-due       chunks of a checkpoint              chunks-sent        those of one partition are
    marker-due       the markers of a round              marker-unknown     on their way, not acknowledged
    marker-half      of half of the partitions           marker-sent
    commit-due       the offsets after the markers       commit-done
    tombstones-due   records of superseded chunks        tombstones-sent
    partials-due     what the windows report             partials-half, partials-sent
    results-due      global results                      results-half, results-sent

`ACTION@STEP:N` acts at the N-th time that the step is reached. ACTION is `kill` (kill -9 to itself) or `stop`
(SIGSTOP to itself: whoever continues it finds it in the middle of the step). What fired is told on standard
error as `FAULT ACTION@STEP:N` just before.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

VARIABLE = "HEARTLINE_TEST_FAULT"
STEPS = (
    *("claim-due", "claim-sent", "letters-due", "letters-sent", "chunks-due", "chunks-sent"),
    *("marker-due", "marker-unknown", "marker-half", "marker-sent", "commit-due", "commit-done"),
    *("tombstones-due", "tombstones-sent", "partials-due", "partials-half", "partials-sent"),
    *("results-due", "results-half", "results-sent"),
)
TOLD = "FAULT "
_ON_ITS_WAY_S = 0.002


class Fault:
    """What to do, at which step, and at its how many-th time."""

    def __init__(self, text: str) -> None:
        self.action, _, place = text.partition("@")
        self.step, _, number = place.partition(":")
        if self.action not in {"kill", "stop"} or self.step not in STEPS or not number.isdigit():
            raise SystemExit(
                f"{VARIABLE}={text}: wanted kill|stop@STEP:N, STEP of {', '.join(STEPS)}"
            )
        self._number = int(number)
        self._reached: Counter[str] = Counter()

    def reach(self, step: str) -> None:
        """This step is reached; act if it is the one."""
        self._reached[step] += 1
        if step == self.step and self._reached[step] == self._number:
            os.write(2, f"{TOLD}{self.action}@{step}:{self._number}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL if self.action == "kill" else signal.SIGSTOP)


def kind_of(topic: str, records: list[Any]) -> str:
    """What a run of records is, in the words of the steps; empty for anything else."""
    name = topic.rpartition(".")[2]
    if name != "state":
        kinds = {"partials": "partials", "results": "results"}
        return kinds.get(name, "letters" if name in {"dead-letters", "late"} else "")
    if all(record.value is None for record in records):
        return "tombstones"
    found = {record.key.split(b"|", 1)[0] for record in records}
    return (
        {b"c": "claim", b"k": "chunks", b"m": "marker"}.get(found.pop(), "")
        if len(found) == 1
        else ""
    )


def install(fault: Fault) -> None:
    """Put the skin around the publisher and the consumer."""
    from agents.publisher import Publisher
    from agents.transport import Consumer

    publish, commit = Publisher.publish, Consumer.commit_offsets
    is_marked = False

    async def published(self: Publisher, topic: str, records: Iterable[Any]) -> dict[int, int]:
        nonlocal is_marked
        records = list(records)
        kind = kind_of(topic, records) if records else ""
        if not kind:
            return await publish(self, topic, records)
        fault.reach(f"{kind}-due")
        if fault.step == f"{kind}-half" and len(records) > 1:
            ends = await publish(self, topic, records[: len(records) // 2])
            fault.reach(fault.step)
            ends |= await publish(self, topic, records[len(records) // 2 :])
        elif kind == "marker" and fault.step == "marker-unknown":
            sending = asyncio.create_task(publish(self, topic, records))
            await asyncio.sleep(_ON_ITS_WAY_S)
            fault.reach("marker-unknown")
            ends = await sending
        else:
            ends = await publish(self, topic, records)
        is_marked = is_marked or kind == "marker"
        fault.reach(f"{kind}-sent")
        return ends

    async def committed(self: Consumer, offsets: Any) -> bool:
        # The proof of membership at a takeover is a commit too; it comes before the first marker.
        if is_marked:
            fault.reach("commit-due")
        done = await commit(self, offsets)
        if is_marked:
            fault.reach("commit-done")
        return done

    Publisher.publish = published  # type: ignore[method-assign]
    Consumer.commit_offsets = committed  # type: ignore[method-assign]


def main() -> None:
    """Install the fault, if one is wanted, and become the program."""
    if text := os.environ.get(VARIABLE):
        install(Fault(text))
    assert sys.argv[1] == "-m"
    module = sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""Workers under a supervisor, as Kubernetes would run them: whoever ends is started again.

Faults are injected by name and counted. A worker that ends by itself (a refused commit, a deadline) is no
error of the test: it is what the design asks for; its exit status is noted. What is an error: a
traceback in its output, an exit status that is neither 0, 1 nor that of our own kill.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.rig.exposition import Exposition
from tests.rig.fault_points import TOLD, VARIABLE
from tests.rig.installation import Installation, get
from tests.rig.processes import PATIENCE_SECONDS, Process, free_ports, wait_until

_WRAPPER = str(Path(__file__).with_name("fault_points.py"))
_AGAIN_AFTER_S = 0.5
_UNUSABLE = 2


@dataclass(slots=True)
class Member:
    """One place of the fleet and the worker that fills it now."""

    number: int
    process: Process
    url_port: int
    summary: Path
    fault: str = ""
    is_wanted: bool = True
    is_stopped: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def page(self) -> Exposition | None:
        """Its /metrics; None while it does not answer."""
        try:
            return Exposition(get(f"http://127.0.0.1:{self.url_port}/metrics", timeout=5))
        except (OSError, AssertionError, ValueError):
            return None


class Fleet:
    """The workers of one installation; a context manager. `injected` counts the faults by name."""

    def __init__(self, installation: Installation, injected: Counter[str]) -> None:
        self._installation = installation
        self.injected = injected
        self.ended: Counter[int] = Counter()
        """Exit statuses of the workers that ended without being asked to."""
        self.wrong: list[str] = []
        self.members: list[Member] = []
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._starts = 0
        self._is_held_back = False
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        for member in self.members:
            if member.is_stopped:
                member.process.signal(signal.SIGCONT)
            member.process.stop(grace=25)

    # -- size

    def scale(self, size: int) -> None:
        """Have this many workers; those too many get a SIGTERM and end in order."""
        with self._lock:
            leaving, self.members = self.members[size:], self.members[:size]
            for member in leaving:
                member.is_wanted = False
                self._end(member, "SIGTERM")
            while len(self.members) < size:
                self.members.append(self._start(len(self.members)))

    def inject(self, number: int, fault: str) -> Member:
        """Replace the worker of a place by one that has this fault (see `tests.rig.fault_points`)."""
        with self._lock:
            before = self.members[number]
            before.is_wanted = False
            if before.process.exit_status is None:
                before.process.signal(signal.SIGTERM)
                before.process.wait(PATIENCE_SECONDS)
            self._look_through(before.process)
            self.members[number] = self._start(number, fault)
            return self.members[number]

    def inject_anywhere(self, fault: str) -> None:
        """Give every worker this fault and wait until it fires in one; the others lose it again."""
        armed = [self.inject(number, fault) for number in range(len(self.members))]
        fired: list[Member] = []

        def has_fired() -> bool:
            fired.extend(one for one in armed if f"{TOLD}{fault}" in one.process.output())
            return bool(fired)

        wait_until(has_fired, what=f"{fault} fires")
        self.wait_until_fired(fired[0])
        for number, member in enumerate(armed):
            with self._lock:
                is_armed = self.members[number] is member and member is not fired[0]
            if is_armed:
                self.terminate(number)

    def hold_back(self) -> None:
        """Start nobody again until `go_on`."""
        self._is_held_back = True

    def go_on(self) -> None:
        """Start again whoever ended in the meantime."""
        self._is_held_back = False

    def kill(self, number: int) -> None:
        """kill -9; the supervisor starts another one."""
        with self._lock:
            self.injected["kill -9 at any moment"] += 1
            self.members[number].process.signal(signal.SIGKILL)

    def terminate(self, number: int) -> None:
        """SIGTERM, wait for its end, start another one."""
        with self._lock:
            member = self.members[number]
            member.is_wanted = False
        self._end(member, "SIGTERM")
        with self._lock:
            self.members[number] = self._start(number)

    def pause(self, number: int) -> Member:
        """SIGSTOP; `resume` continues it."""
        with self._lock:
            member = self.members[number]
            member.is_stopped = True
            self.injected["SIGSTOP at any moment"] += 1
            member.process.signal(signal.SIGSTOP)
            return member

    def resume(self, member: Member) -> None:
        """SIGCONT."""
        member.process.signal(signal.SIGCONT)
        member.is_stopped = False

    def retire(self, member: Member) -> None:
        """Take a paused worker's place for a new one: it may end when it likes, and isn't replaced."""
        with self._lock:
            member.is_wanted = False
            number = self.members.index(member)
            self.members[number] = self._start(number)

    # -- looking

    def wait_until_fired(self, member: Member, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once the fault of this worker has fired."""
        wait_until(
            lambda: f"{TOLD}{member.fault}" in member.process.output(),
            what=f"{member.fault} fires",
            seconds=seconds,
        )
        with self._lock:
            self.injected[member.fault.partition(":")[0]] += 1
        member.is_stopped = member.fault.startswith("stop")

    def owns(self, number: int) -> float:
        """How many partitions the worker of a place says that it owns."""
        page = self.members[number].page()
        return page.total("heartline_assigned_partitions") if page else 0.0

    def wait_until_owned(self, partitions: int) -> None:
        """Return once the workers together own all partitions."""
        wait_until(
            lambda: sum(self.owns(n) for n in range(len(self.members))) == partitions,
            what=f"{partitions} partitions owned by {len(self.members)} workers",
            every=0.3,
        )

    # -- the supervisor

    def _start(self, number: int, fault: str = "") -> Member:
        self._starts += 1
        (port,) = free_ports(1)
        summary = self._installation.directory / f"summary-{self._starts}.json"
        process = self._installation.start(
            *("worker", "--summary", str(summary)),
            under=(_WRAPPER,),
            HEARTLINE_WORKER_PORT=str(port),
            **{VARIABLE: fault},
        )
        return Member(number, process, port, summary, fault)

    def _end(self, member: Member, how: str) -> None:
        self.injected[how] += 1
        if member.process.exit_status is None:
            member.process.signal(signal.SIGTERM)
            status = member.process.wait(PATIENCE_SECONDS)
            # One that has not come as far as to listen to signals owns nothing yet.
            is_early = (
                status == -signal.SIGTERM and "owns partitions" not in member.process.output()
            )
            if status not in {0, 1} and not is_early:
                self.wrong.append(f"exit status {status} after {how}: {_tail(member.process)}")
        self._look_through(member.process)

    def _supervise(self) -> None:
        while not self._stop.wait(0.1):
            if self._is_held_back:
                continue
            with self._lock:
                for place, member in enumerate(self.members):
                    status = member.process.exit_status
                    if status is None or not member.is_wanted or self._stop.is_set():
                        continue
                    if time.monotonic() - member.started_at < _AGAIN_AFTER_S:
                        continue
                    self._note_end(member, status)
                    self.members[place] = self._start(place)

    def _note_end(self, member: Member, status: int) -> None:
        self.ended[status] += 1
        if status == _UNUSABLE or (status < 0 and status != -signal.SIGKILL) or status == 0:
            self.wrong.append(f"exit status {status}: {_tail(member.process)}")
        self._look_through(member.process)

    def _look_through(self, process: Process) -> None:
        if "Traceback" in (output := process.output()):
            start = output.index("Traceback")
            self.wrong.append(f"a traceback in {process.log.name}: {output[start : start + 3000]}")


def _tail(process: Process) -> str:
    return re.sub(r"\s+", " ", process.output()[-600:])


def when(condition: Callable[[], object], what: str) -> None:
    """`wait_until` with the patience of the chaos tests."""
    wait_until(condition, what=what, seconds=2 * PATIENCE_SECONDS)

"""An event loop whose time is virtual, whose order is drawn from a seed, and whose callbacks belong
to processes.

Rules:
- Nothing takes time but waiting: the clock jumps to the next timer when no callback is ready.
- Callbacks of one process run in the order in which they became ready, as asyncio promises; which
process runs next is drawn. So every interleaving of processes can happen, and a seed names one.
- A process is told by the context of whoever scheduled the callback: what a task of it starts
belongs to it.
- A *paused* process runs nothing; what became ready meanwhile runs when it wakes up, late (SIGSTOP).
- A *dead* process never runs again, not even a ``finally`` (kill -9).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")
_BUSY_STEPS = 200_000
_CURRENT: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class SimulationStuck(Exception):
    """The simulated programs wait for nothing, or never wait: a fault of theirs or of the rig."""


class Process:
    """Whose callbacks these are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_paused = False
        self.is_dead = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.causes: list[str] = []
        """Faults after which it may rightly fail."""
        self.context = contextvars.Context()
        """In which callbacks are this process's."""
        self.context.run(_CURRENT.set, self)

    @property
    def runs(self) -> bool:
        return not (self.is_paused or self.is_dead)

    def __repr__(self) -> str:
        return f"<Process {self.name}>"


class Loop(asyncio.AbstractEventLoop):  # only what runs here: nothing waits for a socket
    """See the module. ``world`` is the process of everything that is no worker."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._order = 0
        self._steps_at_this_time = 0
        self.world = Process("world")
        self._processes: list[Process] = [self.world]
        self.ever: list[Process] = [self.world]
        self.steps = 0
        self.errors: list[dict[str, Any]] = []

    # -- processes

    def process(self, name: str) -> Process:
        """A new process, with nothing to do yet."""
        process = Process(name)
        self._processes.append(process)
        self.ever.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task of ``process``."""
        context = contextvars.copy_context()
        context.run(_CURRENT.set, process)
        return context.run(self.create_task, work, name=name, context=context)

    def current(self) -> Process:
        """The process that runs now."""
        return _CURRENT.get(self.world)

    def kill(self, process: Process) -> None:
        """End it without another step."""
        process.is_dead = True
        process.ready.clear()
        for task in process.tasks:
            if task.done() and not task.cancelled():
                # An error that nobody has looked at yet, and now nobody can.
                task.exception()
        if process in self._processes:
            self._processes.remove(process)

    # -- what asyncio needs of a loop

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        owner = context.get(_CURRENT, self.world)
        if not owner.is_dead:
            owner.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._order += 1
        owner = context.get(_CURRENT, self.world)
        heapq.heappush(self._timers, (max(when, self._now), self._order, handle, owner))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        owner = (context or contextvars.copy_context()).get(_CURRENT, self.world)
        owner.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    # -- running

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` as the world's to its end; then end every process."""
        asyncio._set_running_loop(self)
        try:
            task = self.spawn(self.world, main, "main")
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._end()
            asyncio._set_running_loop(None)

    def _end(self) -> None:
        """Throw away what is left of every process, without a word about unfinished tasks."""
        for process in self.ever:
            process.is_dead = True
            for task in process.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    # A `finally` that waits can't be closed; it is dropped with its task.
                    with contextlib.suppress(Exception):
                        task.get_coro().close()
                elif process is self.world and not task.cancelled() and task.exception():
                    self.errors.append({"message": repr(task), "exception": task.exception()})
            process.tasks.clear()
            process.ready.clear()
        self._timers.clear()

    def _step(self) -> None:
        running = [p for p in self._processes if p.ready and not p.is_paused]
        if not running:
            self._advance()
            return
        process = running[0] if len(running) == 1 else self._rng.choice(running)
        handle = process.ready.popleft()
        self.steps += 1
        self._steps_at_this_time += 1
        if self._steps_at_this_time > _BUSY_STEPS:
            raise SimulationStuck(f"{process.name} never waits: {handle!r}")
        if not handle.cancelled():
            handle._run()

    def _advance(self) -> None:
        """Let time jump to the next timer."""
        timers = self._timers
        while timers and (timers[0][2].cancelled() or timers[0][3].is_dead):
            heapq.heappop(timers)
        if not timers:
            raise SimulationStuck("nothing is left to happen")
        if timers[0][0] > self._now:
            self._steps_at_this_time = 0
        self._now = timers[0][0]
        while timers and timers[0][0] <= self._now:
            _, _, handle, owner = heapq.heappop(timers)
            if not handle.cancelled() and not owner.is_dead:
                owner.ready.append(handle)

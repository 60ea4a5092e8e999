"""Child processes that never outlive their parent.

Who owns what: a `Child` owns one process from `start` until `end`. It runs in a session of its own,
so that Ctrl-C in the terminal reaches the parent alone, and the parent ends its children in the
order it wants. Only the pid that was started is ever signalled. Three things guard against orphans:

1. `end` in a ``with`` block: SIGTERM, a grace period, then SIGKILL;
2. `stop_signals_raise`: SIGTERM and SIGHUP become `Stopped`, so that ``with`` blocks unwind;
3. on Linux the kernel's parent-death signal, for a parent that was killed and could not unwind.
"""

from __future__ import annotations

import abc
import contextlib
import ctypes
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType, TracebackType

_PR_SET_PDEATHSIG = 1


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: unwind in order, as for Ctrl-C."""


@contextlib.contextmanager
def stop_signals_raise() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `Stopped` in the main thread."""

    def raise_stopped(number: int, _frame: FrameType | None) -> None:
        raise Stopped(signal.Signals(number).name)

    former = {
        number: signal.signal(number, raise_stopped) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stop_signals_wait() -> Iterator[None]:
    """Within the block Ctrl-C, SIGTERM and SIGHUP are ignored: used while children are ended."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _dying_with_parent() -> Callable[[], None] | None:
    """What the child calls before exec, so that the kernel sends it SIGTERM when the parent dies."""
    if not sys.platform.startswith("linux"):
        return None
    # Found before the fork: the child must do nothing but this one system call.
    prctl = ctypes.CDLL(None).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask_kernel


class EndedWithBlock(abc.ABC):
    """What a ``with`` block starts and ends, whatever happens in it."""

    @abc.abstractmethod
    def start(self) -> Self:
        """Start it."""

    @abc.abstractmethod
    def end(self) -> object:
        """End it; harmless when it has ended."""

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it, whatever happened."""
        self.end()


class Child(EndedWithBlock):
    """One process with its output in a file; ended when its ``with`` block ends."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 10.0,
    ) -> None:
        """Nothing runs before `start`. ``environment`` None: that of this process."""
        self.name = name
        self.argv = tuple(argv)
        self.log = log
        self.grace_s = grace_s
        self._environment = None if environment is None else dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the process, its standard output and error appended to `log`."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - one system call, see there
            )
        return self

    @property
    def pid(self) -> int:
        """Process id of the running or ended process."""
        if self._process is None:
            message = f"{self.name} was not started"
            raise RuntimeError(message)
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit status, or None while it runs (or was never started)."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """True from `start` until the process has ended."""
        return self._process is not None and self._process.poll() is None

    def ask_to_end(self) -> None:
        """Send SIGTERM and return at once."""
        if self._process is not None and self.is_running:
            self._process.terminate()

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its own end; None when it still runs after ``timeout_s``."""
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def end(self) -> int | None:
        """End it: SIGTERM, then SIGKILL after the grace period. Harmless when it has ended."""
        if self._process is None:
            return None
        self.ask_to_end()
        if self.wait(self.grace_s) is None:
            self._process.kill()
            self._process.wait()
        return self._process.returncode

    def last_lines(self, number: int = 12) -> str:
        """Give the end of its log, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-number:])

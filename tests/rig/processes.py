"""Child processes of the tests: each started here, known by its id, and ended here by that id and
nothing else.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE_SECONDS = 90.0
"""How long to wait for something that takes a second or two on an idle machine: several lanes of
tests share two cores. Only a test that fails waits this long.
"""

# A look may be a page of 20,000 series: who waits leaves three quarters of the time to those who
# are waited for.
_REST = 3
_LONGEST_REST_SECONDS = 1.0


class StartError(AssertionError):
    """A program did not come up; carries the end of what it wrote."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at 127.0.0.1, all different. Somebody may take one before its
    user binds it; the kernel hands out such ports in turn, so in practice nobody does.
    """
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(
    condition: Callable[[], object],
    *,
    what: str,
    seconds: float = PATIENCE_SECONDS,
    every: float = 0.2,
) -> None:
    """Return once `condition()` is true; raise a TimeoutError that names `what` after `seconds`.
    It is looked at again after `every` seconds, and less often where a look takes long.
    """
    end = time.monotonic() + seconds
    looked_from = time.monotonic()
    while not condition():
        looked_until = time.monotonic()
        if looked_until > end:
            msg = f"{what}: not within {seconds:g} s"
            raise TimeoutError(msg)
        rest = min(_REST * (looked_until - looked_from), _LONGEST_REST_SECONDS)
        time.sleep(max(every, rest))
        looked_from = time.monotonic()


class Process:
    """A running program, its output in a file (a pipe that nobody reads would stop it one day)."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. `environment` is added to the test's own."""
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # A group of its own: Ctrl-C in the terminal reaches the test, which then ends its
                # children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self._child.poll()

    def output(self) -> str:
        """Everything written so far."""
        return self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait for the end; the exit status."""
        return self._child.wait(seconds)

    def wait_until_up(self, condition: Callable[[], object], *, seconds: float) -> None:
        """Return once `condition()` is true; raise StartError when the program ends or the time is
        over.
        """

        def up_or_ended() -> bool:
            return self.exit_status is not None or bool(condition())

        with contextlib.suppress(TimeoutError):
            wait_until(up_or_ended, seconds=seconds, what=self.name)
            if self.exit_status is None:
                return
        state = (
            "did not come up"
            if self.exit_status is None
            else f"ended with status {self.exit_status}"
        )
        msg = f"{self.name} {state}; the end of its output:\n{self.output()[-3000:]}"
        raise StartError(msg)

    def stop(self, *, grace: float = 15.0) -> None:
        """End it: politely, then after `grace` seconds for certain."""
        if self.exit_status is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            self.wait(grace)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.wait(5)


@contextlib.contextmanager
def running(
    arguments: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """A program for the length of a `with` block."""
    process = Process(arguments, log=log, environment=environment)
    try:
        yield process
    finally:
        process.stop()

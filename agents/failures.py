"""What a command raises when it cannot go on, and the exit statuses of ``heartline``.

The rule: whoever runs a command reads one plain line that says what to do, never a traceback.
`agents.cli` turns these (and `ConfigurationError`) into that line in one place. Anything else that
escapes a command is a fault of ours and keeps its traceback.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | it ran and found something wrong: a check failed, Kafka is away, a send was refused |
| 2 | it could not start: arguments, configuration or files are not usable |
| 3 | done, but some lines of the input were rejected |
| 130 | interrupted |
"""

from __future__ import annotations

FAILED = 1
UNUSABLE = 2
SOME_REJECTED = 3
INTERRUPTED = 130


class CommandFailed(Exception):
    """The command ends here, with ``exit_status`` and one line for the person at the terminal."""

    def __init__(self, message: str, *, exit_status: int = FAILED) -> None:
        """``message`` says what is wrong and what to do about it, in one line."""
        super().__init__(message)
        self.exit_status = exit_status


class Unusable(CommandFailed):
    """What the user gave (an argument, a file, a setting) can't be used."""

    def __init__(self, message: str) -> None:
        """Exit status 2."""
        super().__init__(message, exit_status=UNUSABLE)

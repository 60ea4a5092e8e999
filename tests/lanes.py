"""The tests that start brokers, workers and browsers, in lanes side by side.

They wait far more than they compute. Each lane is a pytest of its own with its own brokers on free
ports; what it printed is shown when it is done, and one that failed fails the run.

    python tests/lanes.py tests/integration tests/browser -- PYTEST ARGUMENTS...
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

LANES = {
    "chaos": "chaos or (durable and apache)",
    "secure": "secure or canary or http_security",
    "simulation": "two_workers or test_faults or test_loop or test_mutations",
    "durable": "durable or worker_process",
    "apache": "apache",
    "embedded": "embedded",
    "other": "",
}
"""What a lane takes of what those before it have left; the last one takes the rest. On two cores each takes
about five minutes: move a word when one no longer does. `--durations` of a run are in .cache/lane-NAME.log.
"""
NOTHING_SELECTED = 5
"""pytest's exit status when only some directories were asked for and none has a test of the lane."""


def selections() -> dict[str, str]:
    """Of each lane the expression for pytest's `-k`."""
    left = ""
    found = {}
    for lane, words in LANES.items():
        found[lane] = " and ".join(part for part in (f"({words})" if words else "", left) if part)
        left = " and ".join(part for part in (left, f"not ({words})") if part)
    return found


def main(arguments: list[str]) -> int:
    """Run the lanes; 1 if any failed."""
    directories, _, rest = " ".join(arguments).partition("--")
    logs = Path(".cache")
    logs.mkdir(exist_ok=True)
    # A shell that runs us in the background has SIGINT ignored, and every program below inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running = {}
    for lane, selection in selections().items():
        command = [sys.executable, "-m", "pytest", *directories.split(), "-k", selection]
        # The long ones of tests/chaos are run by `make chaos`.
        command += ["-m", "not long", "-p", "no:hypothesispytest"]
        command += ["-o", f"cache_dir=.cache/pytest-{lane}", "--durations=8", *rest.split()]
        log = (logs / f"lane-{lane}.log").open("wb")
        running[lane] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        log.close()
    failed = False
    try:
        for lane, process in running.items():
            # Of the processor that the lanes share, with all that the lane has started and waited for.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            failed = failed or process.returncode not in {0, NOTHING_SELECTED}
            spent_s = used.ru_utime + used.ru_stime
            sys.stdout.write(f"== lane {lane} ({spent_s:.0f} s of processor time)\n")
            told = (logs / f"lane-{lane}.log").read_text(errors="replace")
            sys.stdout.write(told.rstrip("\n") + "\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        # The lanes got it too; they end what they started.
        for process in running.values():
            process.wait()
        return 130
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

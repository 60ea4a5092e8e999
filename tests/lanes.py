"""The tests that start brokers, workers and browsers, in lanes side by side.

They wait far more than they compute. Each lane is a pytest of its own with its own brokers on free
ports; what it printed is shown when it is done, and one that failed fails the run.

    python tests/lanes.py tests/integration tests/browser -- PYTEST ARGUMENTS...
"""

import signal
import subprocess
import sys
from pathlib import Path

LANES = {
    "apache": "apache and not secure and not durable",
    "secure": "apache and secure",
    "embedded": "embedded and not apache and not durable",
    "chaos": "(chaos and not long) or (apache and durable)",
    "simulation": "(simulation and not apache and not embedded) or (embedded and durable)",
    "other": "not apache and not embedded and not chaos and not simulation",
}
"""The long ones of tests/chaos are run by `make chaos`."""
NOTHING_SELECTED = 5
"""pytest's exit status when only some directories were asked for and none has a test of the lane."""


def main(arguments: list[str]) -> int:
    """Run the lanes; 1 if any failed."""
    directories, _, rest = " ".join(arguments).partition("--")
    logs = Path(".cache")
    logs.mkdir(exist_ok=True)
    # A shell that runs us in the background has SIGINT ignored, and every program below inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running = {}
    for lane, selection in LANES.items():
        command = [sys.executable, "-m", "pytest", *directories.split(), "-k", selection]
        command += ["-o", f"cache_dir=.cache/pytest-{lane}", "--durations=8", *rest.split()]
        log = (logs / f"lane-{lane}.log").open("wb")
        running[lane] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        log.close()
    failed = False
    try:
        for lane, process in running.items():
            status = process.wait()
            failed = failed or status not in {0, NOTHING_SELECTED}
            sys.stdout.write(f"== lane {lane}\n")
            sys.stdout.write((logs / f"lane-{lane}.log").read_text(errors="replace"))
            sys.stdout.flush()
    except KeyboardInterrupt:
        # The lanes got it too; they end what they started.
        for process in running.values():
            process.wait()
        return 130
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

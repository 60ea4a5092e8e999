#!/usr/bin/env bash
# The tests that start brokers, workers and browsers, in three lanes side by side: they wait far more
# than they compute. Each lane is a pytest of its own with its own brokers on free ports; what it
# printed is shown when all are done, and one that failed fails the run.
#
#   tests/lanes.sh PYTHON DIRECTORY... [-- PYTEST ARGUMENTS...]
set -uo pipefail
python=$1
shift
directories=()
while (($#)) && [[ $1 != -- ]]; do
    directories+=("$1")
    shift
done
(($#)) && shift
mkdir -p .cache

names=(apache embedded other)
selections=("apache" "embedded and not apache" "not apache and not embedded")
pids=()
for i in "${!names[@]}"; do
    "$python" -m pytest "${directories[@]}" -k "${selections[$i]}" -o cache_dir=".cache/pytest-${names[$i]}" \
        --durations=8 "$@" >".cache/lane-${names[$i]}.log" 2>&1 &
    pids+=($!)
done
# Ctrl-C reaches the lanes too: they end what they started, and then this does.
trap 'wait' INT TERM

failed=0
for i in "${!names[@]}"; do
    wait "${pids[$i]}"
    status=$?
    # 5: nothing was selected, as when only some directories are asked for.
    if ((status != 0 && status != 5)); then
        failed=1
    fi
    echo "== lane ${names[$i]}"
    cat ".cache/lane-${names[$i]}.log"
done
exit "$failed"

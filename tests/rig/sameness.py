"""Whether two partitions hold the same state: every attribute of every object, found by looking.

A new attribute takes part by itself. What does not is named here with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from streams.customers import FIELDS, Customer
from streams.partition import Partition
from streams.recent_ids import SILENCE_MS, RecentIds
from streams.rows import unpack
from streams.state import State

LEFT_OUT = {
    # What was read and waits is read again, and counted again; what was reported is gone.
    "Partition": {
        "_counts",
        "_fresh",
        "_next",
        "_replay_to",
        "_is_replaying",
        "_reports",
        "_waiting",
        "_waiting_of",
        "_forgets",
    },
    # Idleness is observed anew.
    "Watermark": {"_caught_up_since", "_is_idle"},
    # Compared by `_customers`; what is still to be written; timers follow from the rows, and a timer
    # that will find nothing to do is not armed again.
    "State": {
        *("customers", "packed", "recent_ids", "touched", "is_tracked", "_wheel"),
        *("_sweep", "_next_sweep_ms"),  # when somebody leaves changes nothing
    },
    # They count into the state's own timeline. Timers follow from the rows.
    "Journey": {"wheel", "_timeline", "_pane"},
    "Lifetime": {"_pane"},
    "Satisfaction": {"_timeline"},
    "Social": {"_timeline"},
    "Support": {"_timeline"},
    # Compared by who is there; where is nobody's business.
    "Evicted": {"_rows", "_hashes", "_taken", "_free", "_index", "_used", "_changed"},
    # A cache, and a count of changes in this process.
    "Pane": {"_sparse", "version"},
}


def state_of(partition: Partition) -> dict[str, Any]:
    """Everything that a partition knows, as plain values."""
    found: dict[str, Any] = _plain(partition)
    found["position"] = msgspec.to_builtins(partition.position())
    found["customers"] = _customers(partition.state, partition.state.timeline.pane_start)
    rows = partition.state.evicted._rows
    found["evicted"] = {row["hash"].item(): row.tolist() for row in rows if row["hash"]}
    return found


def differences(one: Partition, other: Partition) -> list[str]:
    """Where two partitions differ, by path."""
    return _compare(state_of(one), state_of(other), "")


def _customers(state: State, now_ms: int) -> dict[str, Any]:
    found = {}
    for identity, customer in state.customers.items():
        found[identity] = _fields(customer, state.recent_ids.ids(customer.slot), now_ms)
    rings = RecentIds()
    for identity, row in state.packed.items():
        assert identity not in found
        customer = unpack(identity, row, rings)
        found[identity] = _fields(customer, rings.ids(customer.slot), now_ms)
    return found


def _fields(customer: Customer, ids: bytes, now_ms: int) -> dict[str, Any]:
    fields = {name: getattr(customer, name) for name in FIELDS if name != "is_armed"}
    # Ids that the next event will forget are forgotten, whether or not they are still there.
    return fields | {"ids": b"" if now_ms - customer.touched > SILENCE_MS else ids}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    kind = type(value)
    if not kind.__module__.startswith("streams.") or kind.__name__ == "CoreConfig":
        return None if callable(value) or kind.__name__ == "CoreConfig" else value
    names: set[str] = set(getattr(value, "__dict__", ()))
    for ancestor in kind.__mro__:
        names.update(getattr(ancestor, "__slots__", ()))
    wanted = names - LEFT_OUT.get(kind.__name__, set())
    return {name: _plain(getattr(value, name)) for name in sorted(wanted)}


def _compare(one: Any, other: Any, path: str) -> list[str]:
    if one == other:
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                found.append(f"{path}.{key}: only {'here' if key in one else 'there'}")
            else:
                found += _compare(one[key], other[key], f"{path}.{key}")
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            difference
            for place, pair in enumerate(zip(one, other, strict=True))
            for difference in _compare(*pair, f"{path}[{place}]")
        ]
    return [f"{path}: {str(one)[:80]} != {str(other)[:80]}"]

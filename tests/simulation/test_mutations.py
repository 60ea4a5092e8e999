"""Each safeguard of DESIGN.md 4 taken out: a named invariant must fail, else the simulation is blind."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.run import Run

FIRST = {
    "membership proof": (7, 9, 24),
    "tenure tokens": (0, 2, 52, 84),
    "manifest": (5, 6, 15),
    "tombstones after the commit": (3, 5, 6),
    "claims": (1, 3, 7),
    "notes of the roll-up": (9, 44, 49),
}
"""Seeds that have shown it: tried first. The runs change with the code, so others follow."""
WITHIN = 150


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=lambda mutation: mutation.name)
def test_without_a_safeguard_a_named_invariant_fails(mutation: Mutation) -> None:
    seen: set[str] = set()
    for seed in dict.fromkeys((*FIRST.get(mutation.name, ()), *range(WITHIN))):
        broken = Run(seed, without=mutation).verdict().broken
        if broken & mutation.breaks:
            return
        seen |= broken
    pytest.fail(
        f"without {mutation.name} none of {sorted(mutation.breaks)} failed in {WITHIN} seeds; "
        f"others that did: {sorted(seen) or 'none'}"
    )


def test_every_safeguard_of_the_design_has_its_mutation() -> None:
    assert set(MUTATIONS) == {
        "awaiting the sends",
        "state before commit",
        "read_to never falling",
        "watermark still during replay",
        "unique keys",
        "claims",
        "membership proof",
        "tenure tokens",
        "manifest",
        "tombstones after the commit",
        "partials after the marker",
        "CRC",
        # Of ours: decision 11.
        "notes of the roll-up",
    }

"""Where a count belongs: customer cells, and the columns in which cells and channels are reported.

A customer sits in exactly one *cell*, the pair of persona and region. Counts are reported by
*column*: one for everyone, one for each value of each configured customer dimension, one for each
channel. Every value that is not configured is ``other``, an absent one ``unknown``, so the number
of columns is bounded by the configuration whatever is sent.

Some sums have a dimension of their own (`Own`): a ticket's channel, a social network, a stage. Its
values are reported in the columns behind those of the customers, which mean another thing in each
row: so the table of all sums is as wide as the longest of these lists, not as all of them together.
"""

from __future__ import annotations

import enum

import msgspec
import numpy as np
import numpy.typing as npt

from streams.stages import MOVES, STAGES
from streams.sums import Distribution
from streams.windows import ConfigurationError

OTHER = "other"
UNKNOWN = "unknown"
PERSONA = "persona"
REGION = "region"
DIMENSIONS = (PERSONA, REGION)
MAX_VALUES = 64

Integers = npt.NDArray[np.int64]


class Values(msgspec.Struct, frozen=True):
    """A closed list of values; anything else is ``other``, None is ``unknown``."""

    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be told apart."""
        if len(set(self.named)) < len(self.named) or {OTHER, UNKNOWN} & set(self.named):
            message = "values must differ from each other and from 'other' and 'unknown'"
            raise ConfigurationError(message)
        if len(self.named) > MAX_VALUES:
            message = f"at most {MAX_VALUES} values may be named; the rest is counted as 'other'"
            raise ConfigurationError(message)

    @property
    def all(self) -> tuple[str, ...]:
        """The named values, then ``other`` and ``unknown``."""
        return (*self.named, OTHER, UNKNOWN)

    @property
    def other(self) -> int:
        """The index of ``other``."""
        return len(self.named)

    @property
    def unknown(self) -> int:
        """The index of ``unknown``."""
        return len(self.named) + 1

    def index(self) -> dict[str, int]:
        """From a named value to its index; a value that is not there has the index `other`."""
        return {value: i for i, value in enumerate(self.named)}


class Own(enum.Enum):
    """A dimension that belongs to some sums only, by the names of its labels."""

    CHANNEL = "acquisition channel"
    NETWORK = "social network"
    SUPPORT = "channel of a ticket or an answer"
    STAGE = "stage of the journey"
    MOVE = "move of the journey"


OWN_LABELS: dict[Own, tuple[str, ...]] = {
    Own.CHANNEL: ("channel",),
    Own.NETWORK: ("network",),
    Own.SUPPORT: ("channel",),
    Own.STAGE: ("stage",),
    Own.MOVE: ("from", "to"),
}
OWN_OF_DISTRIBUTION: dict[Distribution, Own | None] = {
    Distribution.SESSION: Own.CHANNEL,
    Distribution.FIRST_REPLY: None,
    Distribution.RESOLUTION: None,
    Distribution.STAGE: Own.STAGE,
}


class Column(msgspec.Struct, frozen=True):
    """One column of every sum: whose count it is."""

    segment: dict[str, str]
    dimensions: dict[str, str]


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """The configured customer dimensions and the values of the dimensions that sums have of their
    own.

    ``reported`` names the customer dimensions that get columns. A dimension that is not reported
    still has its values, so that cells mean the same in every configuration.
    """

    persona: Values = Values()
    region: Values = Values()
    channel: Values = Values()
    network: Values = Values()
    support: Values = Values()
    reported: tuple[str, ...] = DIMENSIONS

    def __post_init__(self) -> None:
        """Refuse a dimension that events do not carry."""
        for name in self.reported:
            if name not in DIMENSIONS:
                message = (
                    f"unknown customer dimension {name!r}: events carry {', '.join(DIMENSIONS)}"
                )
                raise ConfigurationError(message)

    @property
    def cells(self) -> int:
        """How many cells there are: persona index times regions plus region index names one."""
        return len(self.persona.all) * len(self.region.all)

    def cell(self, persona: int, region: int) -> int:
        """The cell of a persona and a region, both as indexes."""
        return persona * len(self.region.all) + region

    def columns(self, own: Own | None = None) -> tuple[Column, ...]:
        """The columns of a sum: everyone, the reported customer dimensions in their order, the
        values of its own dimension.
        """
        found = [Column({}, {})]
        for name in self.reported:
            found += [Column({name: value}, {}) for value in self._values(name).all]
        if own is not None:
            labels = OWN_LABELS[own]
            found += [
                Column({}, dict(zip(labels, values, strict=True)))
                for values in self.own_values(own)
            ]
        return tuple(found)

    def own_values(self, own: Own) -> tuple[tuple[str, ...], ...]:
        """The values of a dimension, each a value for each of its labels."""
        if own is Own.MOVE:
            return tuple((STAGES[old], STAGES[new]) for old, new in MOVES)
        if own is Own.STAGE:
            return tuple((stage,) for stage in STAGES)
        values = {Own.CHANNEL: self.channel, Own.NETWORK: self.network, Own.SUPPORT: self.support}
        return tuple((value,) for value in values[own].all)

    @property
    def customer_columns(self) -> int:
        """How many of the columns speak of customers; those of an own dimension follow them."""
        return 1 + sum(len(self._values(name).all) for name in self.reported)

    @property
    def own_columns(self) -> int:
        """How many columns the own dimensions share."""
        return max(len(self.own_values(own)) for own in Own)

    @property
    def width(self) -> int:
        """How many columns the table of all sums has."""
        return self.customer_columns + self.own_columns

    def lanes(self) -> tuple[int, ...]:
        """The first lane of each distribution, and the number of lanes: a distribution has one for
        each of its columns.
        """
        firsts = [0]
        for distribution in Distribution:
            own = OWN_OF_DISTRIBUTION[distribution]
            values = 0 if own is None else len(self.own_values(own))
            firsts.append(firsts[-1] + self.customer_columns + values)
        return tuple(firsts)

    def columns_of_cells(self) -> Integers:
        """``[cells, 1 + reported dimensions]``: the columns in which a customer of each cell is
        counted.
        """
        table = np.zeros((self.cells, 1 + len(self.reported)), np.int64)
        regions = len(self.region.all)
        cell = np.arange(self.cells)
        start = 1
        for place, name in enumerate(self.reported, 1):
            table[:, place] = start + (cell // regions if name == PERSONA else cell % regions)
            start += len(self._values(name).all)
        return table

    def cell_matrix(self) -> Integers:
        """``[cells, customer columns]`` of 0 and 1: multiply counts by cell with it to get counts
        by column.
        """
        matrix = np.zeros((self.cells, self.customer_columns), np.int64)
        matrix[np.arange(self.cells)[:, None], self.columns_of_cells()] = 1
        return matrix

    def _values(self, name: str) -> Values:
        return self.persona if name == PERSONA else self.region

"""Where a count belongs: customer cells, and the columns in which cells and channels are reported.

A customer sits in exactly one *cell*: one value of each configured customer dimension. Counts are
reported by *column*: one for everyone, one for each value of each customer dimension, one for each
channel. The core knows a customer dimension by its place in the configuration, and a value by its
place in the list. Every value that is not configured is ``other``, an absent one ``unknown``, so the number
of columns is bounded by the configuration whatever is sent.

Some sums have a dimension of their own (`Own`): a ticket's channel, a social network, a stage. Its
values are reported in the columns behind those of the customers, which mean another thing in each
row: so the table of all sums is as wide as the longest of these lists, not as all of them together.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.events import COMMON_DIMENSIONS, FIELD_NAMES
from streams.stages import MOVES, STAGES
from streams.sums import Distribution
from streams.windows import ConfigurationError

OTHER = "other"
UNKNOWN = "unknown"
MAX_VALUES = 64
MAX_CELLS = 1 << 16
"""The row of a customer who has left memory holds the cell in two bytes."""
_NAME = re.compile("[a-z][a-z0-9_]*")

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


LABELS_IN_USE = frozenset(
    {"window", "hop", "metric", "partition", "topic", "reason", "le", "quantile", "job", "instance"}
).union(*OWN_LABELS.values())
"""What a customer dimension can't be called, because a label of results or of what Prometheus adds is."""


class Dimension(msgspec.Struct, frozen=True):
    """A customer dimension: its name in events, results and labels, and the values told apart."""

    name: str
    values: Values = Values()

    def __post_init__(self) -> None:
        """Refuse a name that can be no label, or that means something else already."""
        if not _NAME.fullmatch(self.name):
            message = (
                f"{self.name!r} can't be the name of a customer dimension: a label has small "
                "letters, digits and _, a letter first"
            )
            raise ConfigurationError(message)
        if self.name in COMMON_DIMENSIONS:
            return
        if self.name in FIELD_NAMES:
            message = f"{self.name!r} is a field that events have already: it is no customer's"
            raise ConfigurationError(message)
        if self.name in LABELS_IN_USE:
            message = f"{self.name!r} is a label that results have already: call it otherwise"
            raise ConfigurationError(message)


def dimensions(**named: Iterable[str]) -> tuple[Dimension, ...]:
    """Customer dimensions by name, each with its values."""
    return tuple(Dimension(name, Values(tuple(values))) for name, values in named.items())


class Column(msgspec.Struct, frozen=True):
    """One column of every sum: whose count it is."""

    segment: dict[str, str]
    dimensions: dict[str, str]


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """The configured customer dimensions and the values of the dimensions that sums have of their
    own.
    """

    customer: tuple[Dimension, ...] = dimensions(**dict.fromkeys(COMMON_DIMENSIONS, ()))
    channel: Values = Values()
    network: Values = Values()
    support: Values = Values()

    def __post_init__(self) -> None:
        """Refuse dimensions that could not be told apart, and more cells than a row can name."""
        if len(set(self.names)) < len(self.names):
            message = "a customer dimension is named twice"
            raise ConfigurationError(message)
        if self.cells > MAX_CELLS:
            message = (
                f"the customer dimensions make {self.cells:,} cells, and there can't be more than "
                f"{MAX_CELLS:,}: name fewer values or dimensions"
            )
            raise ConfigurationError(message)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the customer dimensions."""
        return tuple(dimension.name for dimension in self.customer)

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return math.prod(len(dimension.values.all) for dimension in self.customer)

    @property
    def strides(self) -> tuple[int, ...]:
        """By how much the cell changes from one value of a dimension to the next: value v of a
        dimension with stride s and n values is ``v == cell // s % n``.
        """
        found: list[int] = []
        stride = 1
        for dimension in reversed(self.customer):
            found.append(stride)
            stride *= len(dimension.values.all)
        return tuple(reversed(found))

    def cell(self, *values: int) -> int:
        """The cell of one value of each customer dimension, as indexes."""
        return sum(v * stride for v, stride in zip(values, self.strides, strict=True))

    def told_in(self, cell: int) -> tuple[str, ...]:
        """The named value of each customer dimension in a cell of named values only."""
        return tuple(
            dimension.values.named[cell // stride % len(dimension.values.all)]
            for dimension, stride in zip(self.customer, self.strides, strict=True)
        )

    @property
    def nowhere(self) -> int:
        """The cell of a customer of whom nothing was ever told."""
        return self.cell(*(dimension.values.unknown for dimension in self.customer))

    def values_of(self, name: str) -> Values | None:
        """The values of a customer dimension; None if there is none of this name."""
        return next((one.values for one in self.customer if one.name == name), None)

    @property
    def identity(self) -> dict[str, object]:
        """What the fingerprint says of the segments."""
        parts = dict[str, object]((one.name, one.values) for one in self.customer)
        parts |= {"channel": self.channel, "network": self.network, "support": self.support}
        return {**parts, "reported": self.names}

    def columns(self, own: Own | None = None) -> tuple[Column, ...]:
        """The columns of a sum: everyone, the customer dimensions in their order, the values of its own
        dimension.
        """
        found = [Column({}, {})]
        for one in self.customer:
            found += [Column({one.name: value}, {}) for value in one.values.all]
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
        return 1 + sum(len(dimension.values.all) for dimension in self.customer)

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
        """``[cells, 1 + dimensions]``: the columns in which a customer of each cell is counted."""
        table = np.zeros((self.cells, 1 + len(self.customer)), np.int64)
        cell = np.arange(self.cells)
        start = 1
        for place, (dimension, stride) in enumerate(
            zip(self.customer, self.strides, strict=True), 1
        ):
            values = len(dimension.values.all)
            table[:, place] = start + cell // stride % values
            start += values
        return table

    def cell_matrix(self) -> Integers:
        """``[cells, customer columns]`` of 0 and 1: multiply counts by cell with it to get counts
        by column.
        """
        matrix = np.zeros((self.cells, self.customer_columns), np.int64)
        matrix[np.arange(self.cells)[:, None], self.columns_of_cells()] = 1
        return matrix

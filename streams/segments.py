"""Where a count belongs: customer cells, and the columns in which cells and channels are reported.

A customer sits in exactly one *cell*, the pair of persona and region. Counts are reported by
*column*: one for everyone, one for each value of each configured customer dimension, one for each
channel. Every value that is not configured is ``other``, an absent one ``unknown``, so the number
of columns is bounded by the configuration whatever is sent.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

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


class Column(msgspec.Struct, frozen=True):
    """One column of every sum: whose count it is."""

    segment: dict[str, str]
    dimensions: dict[str, str]


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """The configured customer dimensions and acquisition channels.

    ``reported`` names the customer dimensions that get columns. A dimension that is not reported
    still has its values, so that cells mean the same in every configuration.
    """

    persona: Values = Values()
    region: Values = Values()
    channel: Values = Values()
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

    def columns(self) -> tuple[Column, ...]:
        """All columns: everyone, the reported customer dimensions in their order, the channels."""
        found = [Column({}, {})]
        for name in self.reported:
            found += [Column({name: value}, {}) for value in self._values(name).all]
        found += [Column({}, {"channel": value}) for value in self.channel.all]
        return tuple(found)

    @property
    def customer_columns(self) -> int:
        """How many of the columns speak of customers; the channels follow them."""
        return 1 + sum(len(self._values(name).all) for name in self.reported)

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

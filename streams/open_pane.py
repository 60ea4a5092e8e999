"""The base pane that is still open: append-only logs, counted at once when it closes.

An event appends small integers to lists (31 ns each); the close counts them with numpy. So an event
costs the same however many windows, columns and levels there are.
"""

from __future__ import annotations

import numpy as np

from streams.panes import Pane
from streams.quantiles import BINS, bins_of
from streams.segments import Integers, Segments
from streams.stages import MOVES, Stage
from streams.sums import ADDITIVES, STOCKS, Additive, Distribution, Mark, Stock

CONVERTED = 2
BOUNCED = 1
_FLAGS = 4
_LEFT_BY = np.array([old for old, _ in MOVES], np.int64)
"""The stage that each move leaves."""
LOGS = (
    "active_cells",
    "active_from",
    "both_cells",
    "both_from",
    "both_to",
    "bought_cells",
    "bought_from",
    "came_cells",
    "came_from",
    "closed",
    "closed_ms",
    "counted",
    "entered",
    "left",
    "left_at",
    "lasted",
    "lasted_ms",
    "met",
    "moved",
    "moved_ms",
    "owned",
    "started",
    "summed",
    "visited_cells",
    "visited_from",
)
"""What a pane holds, each a list that is only appended to but for ``summed``; a checkpoint writes
what is new of them. They are public, and the fold appends to them.
"""


class OpenPane:
    """Logs of one pane. The lists are public: the fold appends to them directly."""

    __slots__ = (
        "_cell_matrix",
        "_cells",
        "_channels",
        "_columns_of_cells",
        "_customer_columns",
        "_lanes",
        "_own",
        "_places",
        "_stocks",
        "_width",
        *LOGS,
    )

    def __init__(self, segments: Segments) -> None:
        """An empty pane."""
        self._cells = segments.cells
        self._channels = len(segments.channel.all)
        self._width = segments.width
        self._customer_columns = segments.customer_columns
        self._own = segments.own_columns
        self._places = self._cells + self._own
        self._lanes = segments.lanes()
        self._stocks = ADDITIVES * self._cells
        self._cell_matrix = segments.cell_matrix()
        self._columns_of_cells = segments.columns_of_cells()
        self.counted: list[int] = []
        """``additive * cells + cell``, once for each count."""
        self.summed: dict[int, int] = {}
        """``additive * cells + cell`` to an exact sum; behind these ``stock * (cells + own columns)
        + cell``, or ``cells + value``, to an exact change.
        """
        self.started: list[int] = []
        """``cell * channels + channel`` of each session that started."""
        self.closed: list[int] = []
        """``(cell * channels + channel) * 4 + converted * 2 + bounced`` of each session that
        closed.
        """
        self.closed_ms: list[int] = []
        """Its duration."""
        self.came_cells: list[int] = []
        """Of whom the last activity was a page view, and now is another: nearly everybody."""
        self.came_from: list[int] = []
        self.active_cells: list[int] = []
        self.active_from: list[int] = []
        self.visited_cells: list[int] = []
        self.visited_from: list[int] = []
        self.bought_cells: list[int] = []
        self.bought_from: list[int] = []
        self.both_cells: list[int] = []
        self.both_from: list[int] = []
        self.both_to: list[int] = []
        self.owned: list[int] = []
        """``additive * own columns + value`` of the sum's own dimension, once for each count."""
        self.entered: list[int] = []
        """``mark * cells + cell`` of each mark that came into this pane without a log of its own."""
        self.left: list[int] = []
        """The same of each that left another moment for it, or left this pane again."""
        self.left_at: list[int] = []
        """The moment it left."""
        self.lasted: list[int] = []
        """``distribution * cells + cell`` of each duration but those of sessions and stages."""
        self.lasted_ms: list[int] = []
        """That duration."""
        self.met: list[int] = []
        """The cell of each customer who enters the journey."""
        self.moved: list[int] = []
        """``move * cells + cell`` of each move between stages."""
        self.moved_ms: list[int] = []
        """How long that customer had been in the stage left."""

    def count_own(self, additive: Additive, cell: int, value: int) -> None:
        """Count once in a cell and at a value of the sum's own dimension."""
        self.counted.append(additive * self._cells + cell)
        self.owned.append(additive * self._own + value)

    def last(self, distribution: Distribution, cell: int, duration_ms: int) -> None:
        """Enter a duration in a cell."""
        self.lasted.append(distribution * self._cells + cell)
        self.lasted_ms.append(duration_ms)

    def stock(self, stock: Stock, cell: int, change: int) -> None:
        """A stock changes in a cell."""
        place, summed = self._stocks + stock * self._places + cell, self.summed
        summed[place] = summed.get(place, 0) + change

    def stock_own(self, stock: Stock, value: int, change: int) -> None:
        """A stock changes at a value of its own dimension."""
        self.stock(stock, self._cells + value, change)

    def move_mark(self, old: Mark | None, new: Mark, cell: int, before_ms: int) -> None:
        """A customer's mark comes into this pane, from ``before_ms`` if there was one."""
        self.entered.append(new * self._cells + cell)
        if old is not None:
            self.left.append(old * self._cells + cell)
            self.left_at.append(before_ms)

    def sum(self, additive: int, cell: int, amount: int) -> None:
        """Add ``amount`` to an additive sum of a cell."""
        place = additive * self._cells + cell
        self.summed[place] = self.summed.get(place, 0) + amount

    @property
    def is_empty(self) -> bool:
        """Whether nothing was logged; visits, orders and durations come only beside a count."""
        return not (
            self.counted
            or self.closed
            or self.summed
            or self.active_cells
            or self.entered
            or self.met
            or self.moved
        )

    def clear(self) -> None:
        """The pane has closed: its logs are those of the next one, and the same lists."""
        for name in LOGS:
            getattr(self, name).clear()

    def by_column(self, cells: Integers) -> Integers:
        """How many stand in each column of customers, each in one of these cells."""
        counts: Integers = np.bincount(cells, minlength=self._cells) @ self._cell_matrix
        return counts

    def counts(self) -> Pane:
        """What the logs of additive counters and durations come to. Raises OverflowError beyond 64
        bits.
        """
        cells = self._cells
        by_cell = np.bincount(
            np.array(self.counted, np.int64), minlength=ADDITIVES * cells
        ).reshape(ADDITIVES, cells)
        by_channel: Integers | None = None
        durations: dict[int, int] = {}
        for place, amount in self.summed.items():
            if place < self._stocks:
                by_cell[place // cells, place % cells] += np.int64(amount)
        if self.started or self.closed:
            by_channel = np.zeros((ADDITIVES, self._channels), np.int64)
            self._count_started(by_cell, by_channel)
            durations = self._count_closed(by_cell, by_channel)
        counts = np.zeros((ADDITIVES, self._width), np.int64)
        customers = self._customer_columns
        counts[:, :customers] = by_cell @ self._cell_matrix
        if by_channel is not None:
            counts[:, customers : customers + self._channels] = by_channel
        if self.owned:
            counts[:, customers:] += np.bincount(
                np.array(self.owned, np.int64), minlength=ADDITIVES * self._own
            ).reshape(ADDITIVES, self._own)
        self._count_moved(counts, durations)
        self._count_lasted(durations)
        return Pane(counts, durations)

    def stocks(self) -> Integers | None:
        """``[stocks, columns]``: by how much each stock changes with this pane; None if none does.

        Lifetime money follows from the pane's orders and refunds; what is logged of it is where
        that would be wrong.
        """
        if not (self.summed or self.met or self.moved):
            return None
        found = np.zeros((STOCKS, self._width), np.int64)
        money = found[Stock.NET_MICROS_EVER]
        for place, change in self.summed.items():
            if place >= self._stocks:
                stock, where = divmod(place - self._stocks, self._places)
                found[stock, self._columns_at(where)] += np.int64(change)
            elif place // self._cells == Additive.REVENUE_MICROS:
                money[self._columns_of_cells[place % self._cells]] += np.int64(change)
            elif place // self._cells == Additive.REFUNDED_MICROS:
                money[self._columns_of_cells[place % self._cells]] -= np.int64(change)
        customers = self._customer_columns
        stages = found[Stock.CUSTOMERS, customers:]
        if self.met:
            found[Stock.CUSTOMERS, :customers] += self.by_column(np.array(self.met, np.int64))
            stages[Stage.AWARE] += len(self.met)
        if self.moved:
            moves = np.array(self.moved, np.int64) // self._cells
            by_move = np.bincount(moves, minlength=len(MOVES))
            for (old, new), count in zip(MOVES, by_move.tolist(), strict=True):
                stages[old] -= count
                stages[new] += count
        return found

    def marks(self) -> list[tuple[int, Integers, Integers, Integers]]:
        """Mark, cells into which it came, cells and moments that it left."""
        if not self.entered:
            return []
        cells = self._cells
        into, where = np.divmod(np.array(self.entered, np.int64), cells)
        out_of, before = np.divmod(np.array(self.left, np.int64), cells)
        moments = np.array(self.left_at, np.int64)
        return [
            (mark, where[into == mark], before[out_of == mark], moments[out_of == mark])
            for mark in np.union1d(into, out_of).tolist()
        ]

    def _columns_at(self, where: int) -> list[int]:
        """The columns of a cell, or that of a value of an own dimension."""
        if where < self._cells:
            columns: list[int] = self._columns_of_cells[where].tolist()
            return columns
        return [self._customer_columns + where - self._cells]

    def _count_moved(self, counts: Integers, durations: dict[int, int]) -> None:
        if not self.moved:
            return
        moves, cells = np.divmod(np.array(self.moved, np.int64), self._cells)
        row, customers = counts[Additive.JOURNEY_MOVES], self._customer_columns
        row[:customers] += self.by_column(cells)
        row[customers : customers + len(MOVES)] += np.bincount(moves, minlength=len(MOVES))
        own = (customers + _LEFT_BY[moves])[:, None]
        columns = np.concatenate([self._columns_of_cells[cells], own], axis=1)
        self._enter(durations, Distribution.STAGE, columns, self.moved_ms)

    def _count_lasted(self, durations: dict[int, int]) -> None:
        if not self.lasted:
            return
        kinds, cells = np.divmod(np.array(self.lasted, np.int64), self._cells)
        lasted_ms = np.array(self.lasted_ms, np.int64)
        for kind in np.unique(kinds).tolist():
            columns = self._columns_of_cells[cells[kinds == kind]]
            self._enter(durations, Distribution(kind), columns, lasted_ms[kinds == kind])

    def _enter(
        self,
        durations: dict[int, int],
        distribution: Distribution,
        columns: Integers,
        durations_ms: Integers | list[int],
    ) -> None:
        """Enter each duration in its columns of a distribution of which nothing is there yet."""
        lanes = self._lanes[distribution] + columns
        bins = bins_of(np.array(durations_ms, np.int64))
        places, counts = np.unique(lanes * BINS + bins[:, None], return_counts=True)
        durations.update(zip(places.tolist(), counts.tolist(), strict=True))

    def late_counts(
        self, additive: Additive, cell: int, amount: int, value: int | None = None
    ) -> Pane:
        """A pane that holds one count of a late event, at a value of its own dimension too where
        there is one.
        """
        counts = np.zeros((ADDITIVES, self._width), np.int64)
        counts[additive, self._columns_of_cells[cell]] = amount
        if value is not None:
            counts[additive, self._customer_columns + value] = amount
        return Pane(counts, {})

    def late_duration(self, distribution: Distribution, cell: int, duration_ms: int) -> Pane:
        """A pane that holds one duration that a late event ended."""
        durations: dict[int, int] = {}
        columns = self._columns_of_cells[cell][None]
        self._enter(durations, distribution, columns, [duration_ms])
        return Pane(np.zeros((ADDITIVES, self._width), np.int64), durations)

    def _count_started(self, by_cell: Integers, by_channel: Integers) -> None:
        if not self.started:
            return
        cells, channels = np.divmod(np.array(self.started, np.int64), self._channels)
        by_cell[Additive.SESSIONS_STARTED] += np.bincount(cells, minlength=self._cells)
        by_channel[Additive.SESSIONS_STARTED] = np.bincount(channels, minlength=self._channels)

    def _count_closed(self, by_cell: Integers, by_channel: Integers) -> dict[int, int]:
        if not self.closed:
            return {}
        codes = np.array(self.closed, np.int64)
        lasted = np.array(self.closed_ms, np.int64)
        where, flags = np.divmod(codes, _FLAGS)
        cells, channels = np.divmod(where, self._channels)
        for index, places in ((by_cell, cells), (by_channel, channels)):
            size = index.shape[1]
            index[Additive.SESSIONS_CLOSED] += np.bincount(places, minlength=size)
            index[Additive.SESSIONS_CONVERTED] += np.bincount(
                places[flags & CONVERTED > 0], minlength=size
            )
            index[Additive.SESSIONS_BOUNCED] += np.bincount(
                places[flags & BOUNCED > 0], minlength=size
            )
            np.add.at(index[Additive.SESSION_MS], places, lasted)
        own = (self._customer_columns + channels)[:, None]
        columns = np.concatenate([self._columns_of_cells[cells], own], axis=1)
        durations: dict[int, int] = {}
        self._enter(durations, Distribution.SESSION, columns, lasted)
        return durations

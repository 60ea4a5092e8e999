"""The base pane that is still open: append-only logs, counted at once when it closes.

An event appends small integers to lists (31 ns each); the close counts them with numpy. So an event
costs the same however many windows, columns and levels there are.
"""

from __future__ import annotations

import numpy as np

from streams.panes import Pane
from streams.quantiles import BINS, bin_of, bins_of
from streams.segments import Integers, Segments
from streams.sums import ADDITIVES, STOCKS, Additive, Distribution, Mark, Stock

CONVERTED = 2
BOUNCED = 1
_FLAGS = 4
_FEW = 32
"""So many durations are faster one by one."""
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
        """``distribution * (cells + own columns) + cell``, and where the distribution has an own
        dimension an entry with ``cells + value`` too, for each duration.
        """
        self.lasted_ms: list[int] = []
        """That duration."""

    def count_own(self, additive: Additive, cell: int, value: int) -> None:
        """Count once in a cell and at a value of the sum's own dimension."""
        self.counted.append(additive * self._cells + cell)
        self.owned.append(additive * self._own + value)

    def last(
        self, distribution: Distribution, cell: int, duration_ms: int, value: int | None = None
    ) -> None:
        """Enter a duration in a cell and, where there is one, at a value of its own dimension."""
        start = distribution * self._places
        self.lasted.append(start + cell)
        self.lasted_ms.append(duration_ms)
        if value is not None:
            self.lasted.append(start + self._cells + value)
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

    def sum(self, additive: Additive, cell: int, amount: int) -> None:
        """Add ``amount`` to an additive sum of a cell."""
        place = additive * self._cells + cell
        self.summed[place] = self.summed.get(place, 0) + amount

    @property
    def is_empty(self) -> bool:
        """Whether nothing was logged; visits, orders and durations come only beside a count."""
        return not (self.counted or self.closed or self.summed or self.active_cells or self.entered)

    def take_counts(self) -> Pane:
        """Count the logs of additive counters and clear them. Raises OverflowError beyond 64
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
            self.owned.clear()
        if len(self.lasted) > _FEW:
            self._enter_durations(durations)
        else:
            for place, duration_ms in zip(self.lasted, self.lasted_ms, strict=True):
                self._enter_duration(durations, place, duration_ms)
        self.lasted.clear()
        self.lasted_ms.clear()
        self.counted.clear()
        self.summed.clear()
        return Pane(counts, durations)

    def stocks(self) -> Integers | None:
        """``[stocks, columns]``: by how much each stock changes with this pane; None if none does.

        To be asked before `take_counts` clears it.
        """
        found: Integers | None = None
        for place, change in self.summed.items():
            if place >= self._stocks and change:
                if found is None:
                    found = np.zeros((STOCKS, self._width), np.int64)
                stock, where = divmod(place - self._stocks, self._places)
                found[stock, self._columns_at(where)] += np.int64(change)
        return found

    def take_marks(self) -> list[tuple[int, Integers, Integers, Integers]]:
        """Mark, cells into which it came, cells and moments that it left; and clear the logs."""
        if not self.entered:
            return []
        cells = self._cells
        into, where = np.divmod(np.array(self.entered, np.int64), cells)
        out_of, before = np.divmod(np.array(self.left, np.int64), cells)
        moments = np.array(self.left_at, np.int64)
        for log in (self.entered, self.left, self.left_at):
            log.clear()
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

    def _enter_durations(self, durations: dict[int, int]) -> None:
        """All that were logged."""
        distributions, where = np.divmod(np.array(self.lasted, np.int64), self._places)
        lanes, bins = np.array(self._lanes)[distributions], bins_of(np.array(self.lasted_ms))
        of_cell = where < self._cells
        columns = self._columns_of_cells[where[of_cell]]
        own = self._customer_columns + where[~of_cell] - self._cells
        keys = np.concatenate(
            [
                ((lanes[of_cell, None] + columns) * BINS + bins[of_cell, None]).reshape(-1),
                (lanes[~of_cell] + own) * BINS + bins[~of_cell],
            ]
        )
        places, counts = np.unique(keys, return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            durations[place] = durations.get(place, 0) + count

    def _enter_duration(self, durations: dict[int, int], place: int, duration_ms: int) -> None:
        # One by one: these are rare beside the sessions, and a bin by numpy costs as much for one as
        # for a hundred.
        distribution, where = divmod(place, self._places)
        lane, at = self._lanes[distribution], bin_of(duration_ms)
        for column in self._columns_at(where):
            key = (lane + column) * BINS + at
            durations[key] = durations.get(key, 0) + 1

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
        self._enter_duration(durations, distribution * self._places + cell, duration_ms)
        return Pane(np.zeros((ADDITIVES, self._width), np.int64), durations)

    def _count_started(self, by_cell: Integers, by_channel: Integers) -> None:
        if not self.started:
            return
        cells, channels = np.divmod(np.array(self.started, np.int64), self._channels)
        by_cell[Additive.SESSIONS_STARTED] += np.bincount(cells, minlength=self._cells)
        by_channel[Additive.SESSIONS_STARTED] = np.bincount(channels, minlength=self._channels)
        self.started.clear()

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
        columns = np.concatenate(
            [self._columns_of_cells[cells], (self._customer_columns + channels)[:, None]], axis=1
        )
        places, counts = np.unique(columns * BINS + bins_of(lasted)[:, None], return_counts=True)
        self.closed.clear()
        self.closed_ms.clear()
        return dict(zip(places.tolist(), counts.tolist(), strict=True))

"""The base pane that is still open: append-only logs, counted at once when it closes.

An event appends small integers to lists (31 ns each); the close counts them with numpy. So an event
costs the same however many windows, columns and levels there are.
"""

from __future__ import annotations

import numpy as np

from streams.panes import Pane
from streams.quantiles import BINS, bins_of
from streams.segments import Integers, Segments
from streams.sums import ADDITIVES, Additive

CONVERTED = 2
BOUNCED = 1
_FLAGS = 4
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
        "_columns",
        "_columns_of_cells",
        "_customer_columns",
        *LOGS,
    )

    def __init__(self, segments: Segments) -> None:
        """An empty pane."""
        self._cells = segments.cells
        self._channels = len(segments.channel.all)
        self._columns = len(segments.columns())
        self._customer_columns = segments.customer_columns
        self._cell_matrix = segments.cell_matrix()
        self._columns_of_cells = segments.columns_of_cells()
        self.counted: list[int] = []
        """``additive * cells + cell``, once for each count."""
        self.summed: dict[int, int] = {}
        """``additive * cells + cell`` to an exact sum."""
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

    def sum(self, additive: Additive, cell: int, amount: int) -> None:
        """Add ``amount`` to an additive sum of a cell."""
        place = additive * self._cells + cell
        self.summed[place] = self.summed.get(place, 0) + amount

    @property
    def is_empty(self) -> bool:
        """Whether nothing was logged; marks move only beside a count."""
        return not (self.counted or self.closed or self.summed or self.active_cells)

    def take_counts(self) -> Pane:
        """Count the logs of additive counters and clear them. Raises OverflowError beyond 64
        bits.
        """
        cells, columns = self._cells, self._columns
        by_cell = np.bincount(
            np.array(self.counted, np.int64), minlength=ADDITIVES * cells
        ).reshape(ADDITIVES, cells)
        by_channel: Integers | None = None
        durations: dict[int, int] = {}
        for place, amount in self.summed.items():
            by_cell[place // cells, place % cells] += np.int64(amount)
        if self.started or self.closed:
            by_channel = np.zeros((ADDITIVES, self._channels), np.int64)
            self._count_started(by_cell, by_channel)
            durations = self._count_closed(by_cell, by_channel)
        counts = np.zeros((ADDITIVES, columns), np.int64)
        counts[:, : self._customer_columns] = by_cell @ self._cell_matrix
        if by_channel is not None:
            counts[:, self._customer_columns :] = by_channel
        self.counted.clear()
        self.summed.clear()
        return Pane(counts, durations)

    def late_counts(self, additive: Additive, cell: int, amount: int) -> Pane:
        """A pane that holds one count of a late event."""
        counts = np.zeros((ADDITIVES, self._columns), np.int64)
        counts[additive, self._columns_of_cells[cell]] = amount
        return Pane(counts, {})

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

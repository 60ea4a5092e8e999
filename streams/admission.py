"""At the door: raw records become arrivals, or dead letters with a reason.

Pure: a record is anything with ``key``, ``value``, ``offset`` and ``timestamp`` (milliseconds),
such as aiokafka's. The order of the checks is size, payload, topic, key, partition, future.

Hashing every key would cost more than folding the event, so a partition's known customers vouch for
their key: only a customer seen for the first time is hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec.structs import force_setattr
from xxhash import xxh3_64_digest

from schemas.decode import Decoder
from schemas.events import COMMON_DIMENSIONS, CustomerForgotten, Event, PageViewed, TimePassed
from schemas.reasons import Reason, Rejected
from schemas.topics import Source
from streams.arrivals import NO_ATTRIBUTES, SOME_ATTRIBUTES, Arrival, Door
from streams.config import CoreConfig
from streams.customers import Customer
from streams.pseudonyms import Pseudonyms

_FAR = 1 << 62
_NOBODY: Mapping[str, Customer] = {}
ORDER_BITS = 48
"""Offsets are below 2^48; the rank of the input stands above them."""
OFFSET_MASK = (1 << ORDER_BITS) - 1


class Record(Protocol):
    """What is read of a raw record."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...


R = TypeVar("R", bound=Record)


class Admitted(Generic[R]):
    """One batch of one input, judged. Arrivals keep the order of the records."""

    __slots__ = (
        "arrivals",
        "dead",
        "has_control",
        "highest_ms",
        "is_ordered",
        "lag_ms",
        "lowest_ms",
        "next_offset",
        "records",
    )

    def __init__(self) -> None:
        """Nothing admitted yet."""
        self.arrivals: list[Arrival] = []
        """Events and control records; a control record has the rank and offset of any other."""
        self.dead: list[tuple[R, Reason, str]] = []
        self.records = 0
        """How many records were judged: arrivals and dead."""
        self.next_offset: int | None = None
        """One more than the last offset of the batch; None if nothing was judged."""
        self.lag_ms: int | None = None
        """Record timestamp less event time of the newest usable record; None where no record tells the
        time.
        """
        self.has_control = True
        """Whether a control record is among them. True is always safe to say."""
        self.is_ordered = False
        """No arrival is older than the one before it. False is always safe to say."""
        self.lowest_ms = 0
        """The oldest event time; 0 is always safe to say."""
        self.highest_ms = 0
        """The highest contribution to the watermark."""


class Admission:
    """Judges the records of one partition."""

    def __init__(
        self,
        config: CoreConfig,
        decoder: Decoder,
        *,
        partition: int,
        partitions: int,
        partition_of: Callable[[bytes, int], int],
        pseudonyms: Pseudonyms | None = None,
        keeps_views: bool = False,
    ) -> None:
        """``partition_of(key, partitions)`` is the producers' partitioner. With ``pseudonyms`` no
        customer's own id gets past here. With ``keeps_views`` page views stay whole events, for who
        wants to read them and folds nothing.
        """
        self._decode = decoder.decode
        self._door = Door(config.segments)
        self._made_light = None if keeps_views else PageViewed
        # The default dimensions are read inline: a call more would cost every event 20 ns.
        self._told = None if config.segments.names == COMMON_DIMENSIONS else self._door.told
        self._max_future = config.max_future_ms
        self._partition = partition
        self._partitions = partitions
        self._partition_of = partition_of
        self._pseudonyms = pseudonyms

    # One loop on purpose, as `State.fold` is.
    def admit(  # noqa: C901
        self,
        source: Source,
        records: Iterable[R],
        *,
        known: Mapping[str, Customer] = _NOBODY,
        start: int = 0,
    ) -> Admitted[R]:
        """Judge ``records`` of ``source``, leaving out offsets below ``start`` (they were judged
        before).

        ``known`` are the customers by name: they stand in the arrivals, and their keys belong here.
        """
        admitted: Admitted[R] = Admitted()
        arrive = admitted.arrivals.append
        decode, max_future, told = self._decode, self._max_future, self._told
        cell_of, view_of, made_light = self._door.cells.get, self._door.view_of, self._made_light
        digest_of, find, pseudonyms = xxh3_64_digest, known.get, self._pseudonyms
        has_control, is_ordered, previous, lowest, highest = False, True, 0, _FAR, 0
        rank = source << ORDER_BITS
        judged, offset = 0, -1
        newest: int | None = None
        for record in records:
            offset = record.offset
            if offset < start:
                continue
            judged += 1
            try:
                at, event, micros = decode(record.value, source)
                timestamp, kind = record.timestamp, event.kind
                if kind is not TimePassed:
                    identity = event.customer_id  # type: ignore[union-attr]
                    key = record.key
                    if key is None or key != identity.encode():
                        raise Rejected(Reason.WRONG_KEY, "the record's key is not the customer_id")
                    if pseudonyms is not None:
                        identity = self._pseudonym(pseudonyms, key, event)
                    customer = find(identity)
                    if customer is None and pseudonyms is None:
                        self._check_partition(key)
                    if at - timestamp > max_future:
                        raise Rejected(
                            Reason.FUTURE,
                            "the event time is too far ahead of the record's timestamp",
                        )
            except Rejected as rejected:
                admitted.dead.append((record, rejected.reason, rejected.detail))
                continue
            if kind is CustomerForgotten:
                # It says nothing about how far its input is, nor whether that is history.
                has_control = True
                arrive((at, rank | offset, event, 0, 0, identity, b"", NO_ATTRIBUTES))
                continue
            newest = timestamp
            # min() and max() would cost 100 ns each: together a fifth of this loop.
            contribution = at if at < timestamp else timestamp  # noqa: FURB136
            if contribution > highest:  # noqa: PLR1730
                highest = contribution
            if at < previous:
                is_ordered = False
            if at < lowest:  # noqa: PLR1730
                lowest = at
            previous = at
            if kind is TimePassed:
                has_control = True
                arrive((at, rank | offset, event, 0, contribution, "", b"", NO_ATTRIBUTES))
                continue
            cell = cell_of(
                (event.persona, event.region) if told is None else told(event),  # type: ignore[union-attr]
                SOME_ATTRIBUTES,
            )
            arrive(
                (
                    at,
                    rank | offset,
                    view_of(event, cell) if kind is made_light else event,  # type: ignore[arg-type]
                    micros,
                    contribution,
                    customer or identity,
                    digest_of(event.event_id.encode()),  # type: ignore[union-attr]
                    cell,
                )
            )
        if judged:
            admitted.records = judged
            admitted.next_offset = offset + 1
            admitted.has_control, admitted.is_ordered = has_control, is_ordered
            admitted.lowest_ms, admitted.highest_ms = lowest, highest
            if newest is not None:
                admitted.lag_ms = newest - previous
        return admitted

    def _check_partition(self, key: bytes) -> None:
        if self._partition_of(key, self._partitions) != self._partition:
            raise Rejected(
                Reason.WRONG_PARTITION,
                "the key belongs to another partition: the producer's partitioner differs from "
                "[kafka] partitioner",
            )

    def _pseudonym(self, pseudonyms: Pseudonyms, key: bytes, event: Event) -> str:
        """The customer's pseudonym, which takes the place of the id in the event as well.

        It says nothing about the partition: ids whose pseudonym is remembered vouch for their key.
        """
        identity: str = event.customer_id  # type: ignore[union-attr]
        found = pseudonyms.known.get(identity)
        if found is None:
            self._check_partition(key)
            found = pseudonyms.of(identity)
        if event.kind is CustomerForgotten:
            del pseudonyms.known[identity]
        # The event is ours alone: it was decoded a moment ago.
        force_setattr(event, "customer_id", found)
        return found

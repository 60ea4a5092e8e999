"""The CDNOW data set (Fader and Hardie) as events: real purchases to try the engine with.

A line is: id in the full set, id in the sample, date as YYYYMMDD, number of CDs, amount in US
dollars. Each becomes one ``order_placed`` at 00:00Z of its day, its ids made from the line number,
so the same file always gives the same events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from agents.failures import Unusable


def cdnow_events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """One JSON event a line of the data set. Raises `Unusable` for a line of another shape."""
    for number, line in enumerate(lines, 1):
        fields = line.split()
        try:
            _, customer, day, _, amount = (field.decode("ascii") for field in fields)
            int(day), float(amount)
            if len(day) != 8:
                raise ValueError(day)
        except ValueError:
            raise Unusable(
                f"line {number} is not of the CDNOW format (id, sample id, YYYYMMDD, CDs, amount)"
            ) from None
        yield orjson.dumps(
            {
                "type": "order_placed",
                "event_id": f"cdnow-{number}",
                "customer_id": customer,
                "occurred_at": f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00Z",
                "order_id": f"cdnow-{number}",
                "amount": amount,
                "currency": "USD",
            }
        )

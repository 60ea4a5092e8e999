"""A customer base that knows the truth.

Rules of this package:

- Everything but `output` is pure: no I/O, no clock; time and seed are handed in. The same
  configuration gives the same bytes, on every machine and under every hash seed: all chance comes
  from one generator, drawn in one order.
- Time is integer milliseconds since the epoch. Two orders exist: *event time*, in which the truth
  is counted, and *arrival*, in which records come out.
- The way of an event: `behaviour` lets a customer visit and writes the events -> `world` puts them
  in event-time order -> `truth` counts them -> `disturbance` decides when each arrives and adds
  duplicates and malformed records -> `world` hands them out in arrival order -> `output` writes
  them.
"""

"""The core of Heartline: windows, sessions, customers, churn.

It is synchronous and deterministic: it does no I/O, reads no clock and draws no random number. It
is handed events and the time, and the same input gives the same numbers in a test, in ``heartline
evaluate`` and in a worker.
"""

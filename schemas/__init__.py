"""The wire contracts of Heartline: events in, results out.

This package is the innermost ring. It imports nothing of ours, does no I/O and reads no clock: it
says what a record looks like, decodes and validates it in one pass, and names every reason for
which a record is refused.
"""

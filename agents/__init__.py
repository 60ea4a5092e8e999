"""The shell of Heartline: Faust, Kafka, Prometheus, HTTP and the command line.

This package is the outermost ring and the only one that does I/O, reads the clock or draws random
numbers. What the numbers mean is decided in `streams`; what the records look like, in `schemas`.
"""

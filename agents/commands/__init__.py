"""The subcommands of ``heartline``: one module a command, each exposing ``command``.

A module here is imported only when its command runs or its help is asked for (`agents.cli`), so it
may import what it needs; what is heavy (Faust, numpy) it still imports inside the function that
uses it.
"""

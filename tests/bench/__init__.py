"""`make bench`: how fast the worker is, how much it needs, and what limits it (docs/performance.md).

A part is a module with `run(options, progress) -> list[Figure]`; `PARTS` in `__main__` names them in order.
"""

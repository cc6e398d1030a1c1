"""`make bench`: speed, resources and limits of the worker (docs/performance.md).

A part is a module with `run(options, progress) -> list[Figure]`; `PARTS` in `__main__` names them in order.
"""

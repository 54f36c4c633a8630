"""Measurements of the real thing: `make bench`, or `python -m benchmarks [NAME...]` for some of them.

Each module here that has a function `measure(bench)` measures something, and yields a Measurement for each figure.
What the figure is compared with is measured in the same run, on the same machine.
"""

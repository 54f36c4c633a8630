"""Metrics for Prometheus: of the whole system, read from its database at each scrape, and of the API's requests.

Names follow https://prometheus.io/docs/practices/naming: seconds and bytes, `_total` for what only grows, a ratio from
0 to 1. What the database can tell is not counted a second time in a process.
"""

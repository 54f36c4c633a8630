"""The dashboard: pages for people over `txwatch.queries`. Reads only; served on loopback."""

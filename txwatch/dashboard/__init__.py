"""The dashboard: pages for people over the query module. Reads only; served on loopback."""

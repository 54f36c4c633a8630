"""The HTTP API: a router for each concept over `txwatch.queries`."""

"""The routers, one for each concept."""

"""Reads for the API, the dashboard and the metrics; nothing here decides or writes. Lists are pages, newest first."""

"""What is read for people: by the API, the dashboard and the metrics alike. Reads only, plain values out.

Belongs here: SQL that answers a question about what was stored. Nothing here decides or writes. Lists come a page at a
time, newest first, and a page begins where the one before it ended (`paging`), so that what lands meanwhile neither
repeats nor hides a row.
"""

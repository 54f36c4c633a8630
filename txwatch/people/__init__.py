"""People: their keys of the API, and the record of what they change."""

"""Days that are complete, as Parquet: written, checked, and read as one with what the database holds."""

"""The live lane: a micro-batch is landed, scored and alerted in one database transaction, and delivered at once."""

"""The HTTP API: one router for each concept over the query module. What it answers is `txwatch.queries`' business."""

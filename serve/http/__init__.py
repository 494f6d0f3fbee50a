"""The HTTP side of serving: two applications, request bodies, responses, log and metrics."""

"""HTTP: the ASGI and the Flask application, request bodies, responses, access log, metrics."""

"""gunicorn's arbiter, worker and HTTP protocol, with what this server needs besides."""

"""gunicorn's arbiter and worker, with what this server needs besides."""

"""The HTTP/1.1 server protocol: from the bytes of a connection to ASGI, and back."""

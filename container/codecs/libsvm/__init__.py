"""`text/libsvm`."""

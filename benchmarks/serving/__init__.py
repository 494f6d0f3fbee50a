"""This server beside its peers: comparison, bursts, soak, and their reports."""

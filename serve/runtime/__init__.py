"""How a worker runs invocations: threads, decoder processes, parallel rows, validation runs."""

"""Execution of invocations: thread pool, decoder processes, row blocks, validation runs."""

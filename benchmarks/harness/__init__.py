"""Start, load and observation of servers, shared by all benchmarks."""

"""The problem, frozen: graph, trigger rules, retry policies.

Pure: no clock, no randomness, no input or output, no threads. Knows nothing of a run; ``machine`` builds on it.
"""

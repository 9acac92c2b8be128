"""The coordinator of one run: the only place where graph, machine and executor meet."""

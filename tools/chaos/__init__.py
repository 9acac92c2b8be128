"""Random pipelines under random faults, and the check that every promise still held.

=================  ====================================================================================================
``cases``          a random pipeline from a seed: shapes, rules, retries, time-outs, sizes, how it is run
``actions``        what its tasks do, and the marks they leave: who ran what, when, and what it read
``scripts``        a random fault script from a seed: what is killed, stopped or starved, and when
``coordinator``    the process that runs the pipelines
``watched``        what is looked at from within that process: the machine after every event, children at every end
``conductor``      the process that hurts that one and its descendants, and nobody else
``virtual``        the same pipelines under the same scripts on the virtual clock, thousands a minute
``oracle``         how a run must end, by the contract's prose; it knows nothing of the engine
``verify``         what the runs left behind, against the oracle and the invariants
=================  ====================================================================================================

``make chaos`` (``ARGS=--help`` tells the rest); a short version with fixed seeds is in the suite.
"""

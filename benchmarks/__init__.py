"""The benchmark suite: ``make bench``, or ``python -m benchmarks --help``.

How it measures, in one paragraph. A *workload* is measured for several *contestants*: ours, the peers, and where
there is one the physical floor. A *turn* is one measurement of one contestant, in a process of its own that starts
it, warms it, measures, checks the results and shuts it down; so nobody is measured beside somebody else's idle
daemons. A *round* gives every contestant one turn; several rounds make a *series*, of which the median and the spread
are shown. Goals are ratios of medians of one run, because absolute figures are the machine's.

======================  ==================================================================================
``__main__``            the command: options, the order of work, what is written where
``conduct``             rounds and turns seen from outside: starts a process, bounds it, clears up after it
``turn``                a turn seen from inside
``series``              figures, medians, spread
``goals``               what issue by issue was promised, and whether this run met it
``report``, ``picture`` tables, JSON, charts
``workloads``           what is measured: one module per kind
``peers``               whom we measure beside: one module each, set up as its own documentation advises
``actions``             what workers run
======================  ==================================================================================
"""

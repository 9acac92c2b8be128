"""dremioframe: DAGs of Python functions, run on every core. The public names are in ``dremioframe.orchestration``.

What lives here: the version. Nothing is imported: the start of every worker pays for what is.
"""

__version__ = "0.1.0"

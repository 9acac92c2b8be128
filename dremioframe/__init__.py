"""DAG pipelines of plain Python functions; everything public is in ``dremioframe.orchestration``.

This file imports nothing: the start of every worker process pays for what stands here.
"""

__version__ = "0.1.0"

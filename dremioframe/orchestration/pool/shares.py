"""What one lease has of a pool, and what the pool has to say to it.

What lives here: two small types between ``capacity`` and ``supervisor``.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .worker_handle import WorkerHandle
else:
    from ..light_typing import Protocol


class Tenant(Protocol):
    """A lease as capacity knows it."""

    def post(self, worker: WorkerHandle | None) -> None:
        """For that lease's own thread: look at this worker (which may be new), or (None) room has changed."""

    def abandon(self) -> None:
        """Close everything: we are a forked child."""


class Share:
    """What one lease has.

    It does not keep the lease alive: a finished run is freed as soon as nobody knows it, and its results with it.

    Attributes:
        limit: Most workers it wants.
        workers: How many it has.
        owed: How many others, which have none and are hungry, it has been chosen to serve with its next empty workers.
        debtor: Who has been chosen to serve this one, as long as it is hungry.
    """

    __slots__ = ("_tenant", "debtor", "limit", "owed", "workers")

    def __init__(self, tenant: Tenant, limit: int) -> None:
        self._tenant = weakref.ref(tenant)
        self.limit = limit
        self.workers = 0
        self.owed = 0
        self.debtor: Share | None = None

    def post(self, worker: WorkerHandle | None) -> None:
        """See :class:`Tenant`."""
        tenant = self._tenant()
        if tenant is not None:
            tenant.post(worker)

    def abandon(self) -> None:
        """See :class:`Tenant`."""
        tenant = self._tenant()
        if tenant is not None:
            tenant.abandon()

"""How a fresh interpreter becomes the zygote: what both sides of that start must agree on.

What lives here: constants and the message. What may not: imports that only one of the two sides needs.
"""

from __future__ import annotations

#: Descriptors that the coordinator puts in place when it starts the zygote.
CONTROL_FD, COORDINATOR_FD, BOOT_FD = 3, 4, 5

#: The zygote must have imported all preload modules by then, and a worker have run its initializer. Far more than any
#: start takes that gets anywhere: it is there so that a run ends which would hang for ever.
START_LIMIT_S = 120.0

#: What the fresh interpreter runs. Everything it imports before ``sys.path`` is set is loaded already at that point, so
#: no file in the working directory can take its place.
BOOT_CODE = f"""\
import marshal, sys
with open({BOOT_FD}, "rb") as boot:
    boot = marshal.load(boot)
sys.path[:] = boot["path"]
from dremioframe.orchestration.pool.zygote import main

main(boot)
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class BootMessage(TypedDict):
        """What the zygote reads from ``BOOT_FD``, by marshal: the same interpreter wrote it a moment ago.

        Attributes:
            path: ``sys.path`` of the coordinator.
            argv: Its ``sys.argv``.
            runner: As in ``PoolOptions``, like the next three.
            preload: See there.
            initializer: See there.
            spill_dir: See there.
            start_limit_s: See above.
            descriptor_limit: Soft limit of descriptors that the zygote and its workers shall have.
        """

        path: list[str]
        argv: list[str]
        runner: str
        preload: list[str]
        initializer: bytes | None
        spill_dir: str | None
        start_limit_s: float
        descriptor_limit: int

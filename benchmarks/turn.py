"""A turn, seen from inside: one contestant of one workload, measured in a process of its own.

    python -m benchmarks.turn REQUEST RESULT-FILE

The request is JSON (see ``conduct``). The result goes to a file, because engines print what they like. What may not
live here: an import at the top that costs anything; pools that start workers afresh import this module in each of
them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(request: dict[str, Any], result: Path) -> None:
    result.write_text(json.dumps(measured(request)), encoding="utf-8")


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """``{"figures": ...}``, or ``{"reason": ...}`` why there are none."""
    from benchmarks.settings import Settings
    from benchmarks.workloads import BY_NAME

    paths = {key: request[key] and Path(request[key]) for key in ("data", "workflows")}
    settings = Settings(workers=request["workers"], scale=request["scale"], **paths)
    try:
        return {"figures": BY_NAME[request["workload"]].measure(request["contestant"], settings)}
    except ModuleNotFoundError as missing:
        return {"reason": f"not installed ({missing.name})"}
    except BaseException as error:
        import traceback

        traceback.print_exc()
        return {"reason": f"failed: {type(error).__name__}: {error}".strip().split("\n")[0]}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))

"""What the workers of these tests run: each call's body is Python source.

The source sees ``ports``, ``call_id`` and ``body``; what it leaves in ``status`` and ``out`` (bytes, or a list of
parts) is the outcome. What it raises is an outcome too (status 1), as with the real runner.
"""

from __future__ import annotations


def make_runner(ports):
    def run(call_id, body):
        names = {"ports": ports, "call_id": call_id, "body": body, "status": 0, "out": b"", "__name__": "user_code"}
        try:
            exec(bytes(body), names)
        except BaseException as error:
            return 1, (repr(error).encode(),)
        out = names["out"]
        return names["status"], out if isinstance(out, list) else [out]

    return run


def make_broken_runner(ports):
    def run(call_id, body):
        raise RuntimeError("a bug of the runner")

    return run


def refuse_to_boot(ports):
    raise RuntimeError("this runner never starts")


def crash_at_boot(ports):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)

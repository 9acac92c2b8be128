"""An attempt in a worker process: unpack the call, run the user's code, pack the outcome.

The pool's worker calls an :class:`AttemptRunner` once for each call it receives. Code, the run's facts and large
or indirect inputs are fetched over the side channel when they are first needed and kept as long as that is useful.

What lives here: everything of an attempt that only makes sense in another process. What may not: processes, signals and
packets (``pool``), and what the user's exceptions mean (``attempt``).
"""

from __future__ import annotations

import os
import sys

from . import calls
from .attempt import Job, run_user_code
from .context import Context
from .errors import PayloadError, TaskCancelled
from .interfaces import OutcomeStatus
from .payload import codec, references
from .payload.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .calls import CallHead, RunFacts
    from .errors import OrchestrationError
    from .pool.worker import Call, Ports

#: Code objects kept per worker; beyond it the oldest go and are fetched again when named again.
_JOBS_KEPT = 256

_NO_ARGUMENTS: tuple[tuple[object, ...], dict[str, object]] = ((), {})


class Phase:
    """What an attempt is doing; shown on the status page. 0 is the pool's: nothing runs."""

    CODE = 1
    INPUTS = 2
    RUNNING = 3
    PACKING = 4


class AttemptRunner:
    """Runs the calls of one worker, one after the other."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._jobs: dict[bytes, Job] = {}
        self._run = b""
        self._facts: RunFacts
        references.connect(lambda token: bytes(ports.request(calls.Request.TOKEN + token)))

    def __call__(self, call: Call) -> tuple[int, Sequence[Any]]:
        """Run one call; returns the outcome's status and the parts of its body."""
        head = calls.read_head(call.body)
        try:
            return self._attempt(head, call.body[calls.HEAD_SIZE :])
        except PayloadError as error:
            return _pack_failure(OutcomeStatus.FAILED, Failure.payload(error.stage, error.path, error.args[0]))

    def _attempt(self, head: CallHead, parts: Any) -> tuple[int, Sequence[Any]]:
        ports = self._ports
        if head.run != self._run:
            self._enter_run(head.run)
        if head.parts_are_external:
            parts = ports.request(calls.Request.PARTS)
        inputs_at = head.args_length + head.name_length
        name = str(parts[head.args_length : inputs_at], "utf-8", "surrogatepass")
        ports.phase(Phase.CODE)
        job = self._jobs.get(head.code) or self._load_job(head.code)
        ports.phase(Phase.INPUTS)
        args, kwargs = _NO_ARGUMENTS
        if head.args_length:
            args, kwargs = _decode(parts[: head.args_length], "args_unpickle", private=head.parts_are_external)
        context = None
        if job.takes_context:
            context = self._context(head, name, parts[inputs_at:])
        ports.on_stop = job.on_kill
        ports.phase(Phase.RUNNING)
        ended = run_user_code(job, name, args, kwargs, context)
        ports.on_stop = None
        ports.phase(Phase.PACKING)
        if ended.error is not None:
            failure = Failure.capture(ended.error, note=ended.note)
            return _pack_failure(ended.status, failure, ended.retryable, ended.retry_delay_s)
        return self._pack_result(ended.value)

    def _enter_run(self, run: bytes) -> None:
        """Become a worker of another run: its paths, directory and environment."""
        facts: RunFacts = calls.RunFacts._make(
            codec.decode(self._ports.request(calls.Request.RUN + run), private=False)
        )
        sys.path[:] = facts.sys_path
        if facts.cwd is not None:
            os.chdir(facts.cwd)
        _set_environment(facts.environ)
        references.begin_run()
        self._jobs.clear()  # the same code may be wanted afresh: globals and class attributes as they are now
        self._facts, self._run = facts, run
        self._ports.rebase()

    def _load_job(self, digest: bytes) -> Job:
        blob = self._ports.request(calls.Request.CODE + digest)
        try:
            job = Job._make(references.load_code(blob))
        except TaskCancelled:
            raise
        except BaseException as error:
            raise PayloadError(_reason(error), stage="code_unpickle", path="action") from error
        if len(self._jobs) >= _JOBS_KEPT:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[digest] = job
        return job

    def _context(self, head: CallHead, name: str, table: Any) -> Context:
        source = _FetchingSource(self._ports, self._facts.run_names, table, name, head.attempt)
        return Context(
            source,
            run_id=self._facts.run_id,
            pipeline_name=self._facts.pipeline_name,
            task_name=name,
            attempt=head.attempt,
        )

    def _pack_result(self, value: object) -> tuple[int, Sequence[Any]]:
        try:
            return OutcomeStatus.SUCCESS, codec.encode(value).parts
        except codec.EncodeError as error:
            return _pack_failure(
                OutcomeStatus.FAILED, Failure.payload("result_pickle", f"result{error.path}", error.reason)
            )


class _FetchingSource:
    """A context's values: inline ones from the call, all others asked for."""

    def __init__(self, ports: Ports, run_names: tuple[str, ...], table: Any, task: str, attempt: int) -> None:
        self._ports = ports
        self._run_names = run_names
        self._table = table
        self._inline: dict[str, Any] | None = None
        self._task = task
        self._attempt = attempt

    def run_names(self) -> tuple[str, ...]:
        return self._run_names

    def value(self, name: str) -> object:
        if self._inline is None:
            self._inline = dict(calls.read_inputs(self._table))
        payload = self._inline.pop(name, None)
        if payload is not None:
            return _decode(payload, "context_unpickle", private=False, path=name)
        answer = self._ports.request(_value_request(name))
        if not isinstance(answer, bytes):
            return _decode(answer, "context_unpickle", private=True, path=name)
        kind, body = answer[:1], memoryview(answer)[1:]
        if kind == calls.ABSENT:
            raise KeyError(str(body, "utf-8", "surrogatepass"))
        if kind == calls.UNSENDABLE:
            raise Failure.from_bytes(body).to_error(task=self._task, attempt=self._attempt)
        return _decode(body, "context_unpickle", private=False, path=name)

    def upstream(self) -> Mapping[str, str]:
        states: Any = codec.decode(self._ports.request(calls.Request.STATES), private=False)
        return dict(states)

    def errors(self) -> Mapping[str, OrchestrationError]:
        failures: Any = codec.decode(self._ports.request(calls.Request.FAILURES), private=False)
        return {name: Failure.from_bytes(raw).to_error(task=name, attempt=attempt) for name, attempt, raw in failures}


def _value_request(name: str) -> bytes:
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) > calls.NAME_LIMIT:
        return calls.Request.LONG_VALUE + references.digest(raw)
    return calls.Request.VALUE + raw


def _decode(data: Any, stage: str, private: bool, path: str = "") -> Any:
    try:
        return codec.decode(data, private=private)
    except codec.DecodeError as error:
        raise PayloadError(_reason(error.__cause__ or error), stage=stage, path=path) from error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _set_environment(environ: dict[str, str]) -> None:
    """Make ``os.environ`` equal to ``environ`` with as few changes as possible: each one calls ``putenv``."""
    for name in [name for name in os.environ if name not in environ]:
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _pack_failure(
    status: int, failure: Failure, retryable: bool = False, retry_delay_s: float | None = None
) -> tuple[int, Sequence[bytes]]:
    return status, (calls.pack_failure_head(retryable, retry_delay_s), failure.to_bytes())

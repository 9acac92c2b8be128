"""An attempt in a worker process: unpack the call, run the user's code, pack the outcome.

The pool's worker calls an :class:`AttemptRunner` once for each call it receives. Code, the run's facts and large
or indirect inputs are fetched over the side channel when they are first needed and kept as long as that is useful.

What lives here: everything of an attempt that only makes sense in another process. What may not: processes, signals and
packets (``pool``), and what the user's exceptions mean (``user_code``).
"""

from __future__ import annotations

import os
import sys

from . import calls, failpoints
from .context import Context
from .errors import NestedRunError, OrchestrationError, PayloadError
from .interfaces import OutcomeStatus
from .payload import codec, guard, references
from .payload.diagnosis import describe
from .payload.failure import Failure
from .pool.hygiene import set_environment
from .pool.ports import RequestFailed
from .user_code import Job, run_user_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .calls import RunFacts
    from .pool.ports import Ports
    from .user_code import Ended

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_chdir, _get_limit, _set_limit = os.chdir, sys.getrecursionlimit, sys.setrecursionlimit

#: Code objects kept per worker; beyond it the oldest go and are fetched again when named again.
_JOBS_KEPT = 256

_NO_ARGUMENTS: tuple[tuple[object, ...], dict[str, object]] = ((), {})


class AttemptRunner:
    """Runs the calls of one worker, one after the other."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._jobs: dict[bytes, Job] = {}
        self._run = b""
        self.attempts = 0  # that have begun here
        self._facts: RunFacts
        self._recursion_limit = _get_limit()
        references.connect(lambda token: bytes(ports.request(calls.Request.TOKEN + token)))
        guard.connect(lambda: ports.stopping)

    def __call__(self, call_id: int, body: bytes) -> tuple[int, Sequence[Any]]:
        """Run one call; returns the outcome's status and the parts of its body."""
        try:
            return self._attempt(call_id, body)
        except PayloadError as error:
            if failpoints.armed and failpoints.hit("worker_attempt.unpickle"):
                raise
            return _pack_failure(OutcomeStatus.FAILED, Failure.payload(error.stage, error.path, error.args[0]))
        except NestedRunError as error:  # from a module that runs a pipeline when it is imported
            return _pack_failure(OutcomeStatus.FAILED, Failure.capture(error))
        except BaseException as error:
            if guard.must_pass(error):
                raise
            return self._pack_surprise(error, "args_unpickle", "args")

    def _attempt(self, call_id: int, body: bytes) -> tuple[int, Sequence[Any]]:
        self.attempts += 1
        code, run, _, attempt, args_length, name_length, flags = calls.read_head(body)
        if flags & calls.LIMITED:
            self._ports.note_memory()
        if run != self._run:
            self._enter_run(run, call_id)
        is_external = flags & calls.EXTERNAL
        parts: Any = body[calls.HEAD_SIZE :]
        if is_external:
            parts = self._fetch(calls.Request.PARTS, call_id, "args_unpickle", "args")
        inputs_at = args_length + name_length
        name = str(parts[args_length:inputs_at], "utf-8", "surrogatepass")
        job = self._jobs.get(code) or self._load_job(code, call_id)
        args, kwargs = _NO_ARGUMENTS
        if args_length:
            args, kwargs = _decode(parts[:args_length], "args_unpickle", private=bool(is_external))
        context = self._context(attempt, call_id, name, parts[inputs_at:]) if job.takes_context else None
        self._ports.on_stop = job.on_kill
        ended = run_user_code(job, name, args, kwargs, context)
        return self._pack(ended)

    def _pack(self, ended: Ended) -> tuple[int, Sequence[Any]]:
        try:
            self._ports.on_stop = None
            if ended.error is None:
                return OutcomeStatus.SUCCESS, codec.encode(ended.value).parts
            failure = Failure.capture(ended.error, note=ended.note)
            return _pack_failure(ended.status, failure, ended.retryable, ended.retry_delay_s)
        except codec.EncodeError as error:
            if failpoints.armed and failpoints.hit("worker_attempt.pack"):
                raise
            failure = Failure.payload("result_pickle", f"result{error.path}", error.reason)
            return _pack_failure(OutcomeStatus.FAILED, failure)
        except BaseException as error:
            if guard.must_pass(error):
                raise
            return self._pack_surprise(error, "result_pickle", "result")

    def _fetch(self, request: bytes, call_id: int, stage: str, path: str) -> Any:
        """Ask on behalf of the running call; a refusal fails its attempt, not the worker."""
        try:
            return self._ports.request(request, call_id)
        except (RequestFailed, OSError) as error:
            raise PayloadError(f"it could not be fetched: {describe(error)}", stage=stage, path=path) from error

    def _enter_run(self, run: bytes, call_id: int) -> None:
        """Become a worker of another run: its paths, directory and environment."""
        answer = self._fetch(calls.Request.RUN + run, call_id, "code_unpickle", "run")
        facts: RunFacts = calls.RunFacts._make(_decode(answer, "code_unpickle", private=False, path="run"))
        _settle_in(facts)
        references.begin_run()
        self._jobs.clear()  # the same code may be wanted afresh: globals and class attributes as they are now
        self._facts, self._run = facts, run
        self._ports.rebase()

    def _load_job(self, digest: bytes, call_id: int) -> Job:
        blob = self._fetch(calls.Request.CODE + digest, call_id, "code_unpickle", "action")
        try:
            job = Job._make(references.load_code(blob))
        except NestedRunError:
            raise
        except BaseException as error:
            if guard.must_pass(error):
                raise
            raise PayloadError(describe(error), stage="code_unpickle", path="action") from error
        if len(self._jobs) >= _JOBS_KEPT:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[digest] = job
        return job

    def _context(self, attempt: int, call_id: int, name: str, table: Any) -> Context:
        source = _FetchingSource(self, self._ports, call_id, self._facts.run_names, table, name, attempt)
        return Context(
            source,
            run_id=self._facts.run_id,
            pipeline_name=self._facts.pipeline_name,
            task_name=name,
            attempt=attempt,
        )

    def _pack_surprise(self, error: BaseException, stage: str, path: str) -> tuple[int, Sequence[Any]]:
        """What ended an attempt before or after the user's code and was not foreseen: no reason to lose the worker.

        The first suspect is a task that has left no stack to work on; the pool puts that back only after the outcome.
        """
        _set_limit(max(self._recursion_limit, _get_limit()))
        return _pack_failure(OutcomeStatus.FAILED, Failure.payload(stage, path, describe(error)))


class _FetchingSource:
    """A context's values: inline ones from the call, all others asked for.

    Always on behalf of the call it was made for. Task code may keep a context, in a global or in a thread that outlives
    the task, until this worker runs something else, for which the coordinator would answer otherwise.
    """

    def __init__(
        self,
        runner: AttemptRunner,
        ports: Ports,
        call_id: int,
        run_names: tuple[str, ...],
        table: Any,
        task: str,
        attempt: int,
    ) -> None:
        self._runner = runner
        self._number = runner.attempts  # the ids of calls are used again
        self._ports = ports
        self._call_id = call_id
        self._run_names = run_names
        self._table = table
        self._inline: dict[str, Any] | None = None
        self._states: Mapping[str, str] | None = None
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
        answer = self._ask(_value_request(name), path=name)
        if not isinstance(answer, bytes):
            return _decode(answer, "context_unpickle", private=True, path=name)
        kind, body = answer[:1], memoryview(answer)[1:]
        if kind == calls.ABSENT:
            raise KeyError(str(body, "utf-8", "surrogatepass"))
        if kind == calls.UNSENDABLE:
            raise Failure.from_bytes(body).to_error(task=self._task, attempt=self._attempt)
        return _decode(body, "context_unpickle", private=False, path=name)

    def upstream(self) -> Mapping[str, str]:
        if self._states is None:  # frozen at dispatch: asked for once
            states: Any = codec.decode(self._ask(calls.Request.STATES), private=False)
            self._states = dict(states)
        return dict(self._states)

    def errors(self) -> Mapping[str, OrchestrationError]:
        failures: Any = codec.decode(self._ask(calls.Request.FAILURES), private=False)
        return {name: Failure.from_bytes(raw).to_error(task=name, attempt=attempt) for name, attempt, raw in failures}

    def _ask(self, request: bytes, path: str = "") -> Any:
        if self._runner.attempts != self._number:
            raise self._too_late()
        try:
            return self._ports.request(request, self._call_id)
        except (RequestFailed, OSError) as error:
            if self._ports.running != self._call_id:
                raise self._too_late() from error
            raise PayloadError(
                f"it could not be fetched: {describe(error)}", stage="context_unpickle", path=path
            ) from error

    def _too_late(self) -> OrchestrationError:
        return OrchestrationError(
            f"the context of task {self._task!r} was used after its attempt had ended; read what is needed later while "
            "the task runs",
            task=self._task,
            attempt=self._attempt,
        )


def _value_request(name: str) -> bytes:
    raw = name.encode("utf-8", "surrogatepass")
    if len(raw) > calls.NAME_LIMIT:
        return calls.Request.LONG_VALUE + references.digest(raw)
    return calls.Request.VALUE + raw


def _decode(data: Any, stage: str, private: bool, path: str = "") -> Any:
    try:
        return codec.decode(data, private=private)
    except codec.DecodeError as error:
        cause = error.__cause__
        if cause is not None and issubclass(type(cause), NestedRunError):
            raise cause from None
        raise PayloadError(describe(error if cause is None else cause), stage=stage, path=path) from error


def _enter_directory(path: str | None) -> None:
    try:
        if path is not None:
            _chdir(path)
    except FileNotFoundError:
        return  # removed since the run began, by a task perhaps: no reason to fail those that do not need it


def _settle_in(facts: RunFacts) -> None:
    """Take over a run's paths, directory and environment.

    Raises:
        PayloadError: One of them cannot be had: the directory is gone, a variable's name is none.
    """
    try:
        _enter_directory(facts.cwd)
        set_environment(facts.environ)
    except (OSError, ValueError) as error:
        raise PayloadError(
            f"the worker cannot take over the run's directory and environment: {describe(error)}",
            stage="code_unpickle",
            path="run",
        ) from error
    sys.path[:] = facts.sys_path


def _pack_failure(
    status: int, failure: Failure, retryable: bool = False, retry_delay_s: float | None = None
) -> tuple[int, Sequence[bytes]]:
    return status, (calls.pack_failure_head(retryable, retry_delay_s), failure.to_bytes())

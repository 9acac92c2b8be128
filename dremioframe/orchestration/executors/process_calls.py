"""From attempts to call bodies, and from a running call's requests to their answers: the data side of one run.

What lives here: packing, and the lookups that answer a worker. What may not: the pool's events
(``process_session``), the byte formats themselves (``calls``). User data is pickled here and never unpickled.
"""

from __future__ import annotations

import os
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType

from .. import calls, failpoints
from ..payload import codec, references
from ..payload.diagnosis import describe
from ..payload.failure import Failure
from ..payload.segments import Segment
from .process_outcome import ProcessOutcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ..interfaces import Inputs, Plan
    from ..payload.store import Store
    from ..task import Task

_NOTHING = b""
_LONGEST_REASON = 8_000

#: Most bytes of short inputs that are put together for one attempt; what is left is asked for one by one.
_GATHER_LIMIT = 64 << 20

#: What no call can change.
_CONSTANT = frozenset((NoneType, bool, int, float, complex, str, bytes, type, ModuleType))

#: Code beyond this was probably not meant to be so long.
_HEAVY_CODE = 64_000_000


class Unsendable(Exception):
    """Something of one task cannot be pickled, or not be put where its worker would read it.

    Attributes:
        failure: What, and where in it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class CallData:
    """Everything the workers of one run may be sent."""

    def __init__(self, plan: Plan, inputs: Inputs, env: Mapping[str, str], store: Store) -> None:
        self._plan = plan
        self._tasks, self._takes_context = plan.tasks, plan.dag.takes_context
        self._inputs = inputs
        self._store = store
        self._blobs: dict[bytes, bytes | Segment] = {}
        self._digests: dict[tuple[int, int, int, bool], tuple[bytes, object]] = {}
        self._latest_code: tuple[Any, Any, Any, bool | None, bytes] = (None, None, None, None, _NOTHING)
        #: The variable parts of calls for which they are too long, by task and attempt.
        self.external: dict[tuple[int, int], Segment] = {}
        self._run_values: dict[str, bytes | Segment] = {}
        self._long_names: dict[bytes, str] | None = None
        self._heavy: list[tuple[str, tuple[Any, ...], int]] = []  # task, code, bytes
        #: Classes and functions that were told by token: results may name them as long as somebody can read results.
        self.pins: dict[bytes, Any] = {}
        self._run = self._keep(codec.encode(tuple(_run_facts(plan, env))).to_bytes())

    def _keep(self, blob: bytes, owner: int = 0) -> bytes:
        """Have a blob ready for any worker that asks for it by its digest. A long one is written down once.

        Args:
            owner: Whose it is, if a worker must not take another's that looks the same for it.
        """
        digest = references.digest(blob)
        if owner:
            digest = references.digest(digest + owner.to_bytes(8, "little"))
        if digest not in self._blobs:
            is_long = len(blob) > calls.INLINE_LIMIT
            self._blobs[digest] = self._segment((blob,), len(blob), "code_pickle", "action") if is_long else blob
        return digest

    # --- calls --------------------------------------------------------------------------------------------------------

    def pack(self, task: int, attempt: int, flags: int = 0) -> bytes:
        """One call's body.

        Raises:
            Unsendable: The task's code or arguments cannot be pickled, or there is no room for them.
        """
        definition = self._tasks[task]
        takes_context = self._takes_context[task]
        code = self._code_digest(definition, takes_context)
        args: Any = _NOTHING
        if definition.args or definition.kwargs:
            args = self._encoded_whole((definition.args, definition.kwargs), "args_pickle", _args_path)
        inputs = self._near_inputs(task) if takes_context else _NOTHING
        name = definition.name.encode("utf-8", "surrogatepass")
        size = len(name) + len(args) + len(inputs)
        if size <= calls.INLINE_LIMIT:
            return calls.pack_call(code, self._run, task, attempt, args, name, inputs, flags)
        self.external[task, attempt] = self._segment((args, name, inputs), size, "args_pickle", "args")
        return calls.pack_external_call(code, self._run, task, attempt, len(args), len(name), flags)

    def _code_digest(self, definition: Task, takes_context: bool) -> bytes:
        # By identity, here and below: these objects may have an __eq__ of their own. The latest one first, because
        # neighbours in a wide pipeline share their code.
        action, retry_on, on_kill, context_too, digest = self._latest_code
        if (
            definition.action is not action
            or definition.retry_on is not retry_on
            or definition.on_kill is not on_kill
            or takes_context is not context_too
        ):
            job = (definition.action, definition.retry_on, definition.on_kill, takes_context)
            digest = self._digest_of(job, definition.name)
            self._latest_code = (*job, digest)
        return digest

    def _digest_of(self, job: tuple[Any, Any, Any, bool], task: str) -> bytes:
        action, retry_on, on_kill, takes_context = job
        key = (id(action), id(retry_on), id(on_kill), takes_context)
        if (known := self._digests.get(key)) is not None:
            digest, _ = known
        else:
            try:
                blob = references.pack_code(job, self.pins)
            except codec.EncodeError as error:
                raise Unsendable(Failure.payload("code_pickle", _job_path(error.path), error.reason)) from error
            except BaseException as error:
                raise Unsendable(Failure.payload("code_pickle", "action", _hostile(error))) from error
            digest = self._keep(blob, _state_of(action))
            self._digests[key] = digest, job  # which keeps the objects alive, so that no id is used twice
            if len(blob) > _HEAVY_CODE:
                self._heavy.append((task, job, len(blob)))
        return digest

    def _near_inputs(self, task: int) -> bytes:
        """The short values of direct upstreams, which travel together; the worker asks for a long one if it needs it.

        However many they are: ten thousand single questions would take half a second.
        """
        room = _GATHER_LIMIT
        entries: list[tuple[str, Any]] = []
        for name, outcome in self._inputs.direct(task):
            if isinstance(outcome, ProcessOutcome) and outcome.segment is None and room > outcome.bytes_out:
                room -= outcome.bytes_out
                entries.append((name, outcome.payload))
        return calls.pack_inputs(entries)

    def forget(self, task: int, attempt: int) -> None:
        """The attempt is over."""
        segment = self.external.pop((task, attempt), None)
        if segment is not None:
            segment.close()

    def close(self) -> None:
        """The run is over."""
        for held in (*self.external.values(), *self._run_values.values(), *self._blobs.values()):
            if isinstance(held, Segment):
                held.close()
        self.external.clear()
        self._run_values.clear()
        self._blobs.clear()

    def warnings(self) -> list[tuple[str | None, str]]:
        """What the user should be told when the run is over: the task and the text. Not before: it may take seconds."""
        return [(task, _heavy_code(task, job, size)) for task, job, size in self._heavy]

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, task: int, attempt: int, request: bytes) -> bytes | Segment:
        """What a running call asked for.

        Raises:
            KeyError, ValueError: There is no such thing: a bug, or a request from a worker gone mad.
        """
        kind, key = request[:1], bytes(request[1:])
        match kind:
            case calls.Request.CODE | calls.Request.RUN:
                return self._blobs[key]
            case calls.Request.TOKEN:
                return references.blob_for_token(key, self.pins)
            case calls.Request.PARTS:
                return self.external[task, attempt]
            case calls.Request.VALUE:
                return self._value(task, attempt, key.decode("utf-8", "surrogatepass"))
            case calls.Request.LONG_VALUE:
                return self._value(task, attempt, self._long_name(key))
            case calls.Request.STATES:
                return codec.encode(list(self._inputs.states(task, attempt))).to_bytes()
            case calls.Request.FAILURES:
                return self._failures(task, attempt)
            case _:
                raise ValueError(f"unknown request {kind!r}")

    def _value(self, task: int, attempt: int, name: str) -> bytes | Segment:
        try:
            payload = self._run_value(name) if name in self._plan.context else self._result(task, attempt, name)
        except KeyError as error:
            return calls.ABSENT + str(error.args[0])[:_LONGEST_REASON].encode("utf-8", "surrogatepass")
        except Unsendable as error:
            failure = error.failure
            return (
                calls.UNSENDABLE
                + Failure.payload(
                    failure.stage, failure.path[:_LONGEST_REASON], failure.message[:_LONGEST_REASON]
                ).to_bytes()
            )
        if isinstance(payload, Segment):
            return payload
        if len(payload) < calls.INLINE_LIMIT:
            return calls.PRESENT + payload
        # With the byte that says so it would be too long for a packet, and as a mapping it must stand alone.
        segment = self._run_values[name] = self._segment((payload,), len(payload), "context_pickle", name)
        return segment

    def _long_name(self, digest: bytes) -> str:
        if self._long_names is None:
            names = (name for name in (*self._plan.dag.names, *self._plan.context) if 4 * len(name) > calls.NAME_LIMIT)
            self._long_names = {references.digest(name.encode("utf-8", "surrogatepass")): name for name in names}
        return self._long_names.get(digest, "(a name that no task has)")

    def _result(self, task: int, attempt: int, name: str) -> bytes | Segment:
        outcome = self._inputs.outcome(task, attempt, name)
        assert isinstance(outcome, ProcessOutcome), "all attempts of a run use one executor"
        payload = outcome.payload
        return payload if isinstance(payload, Segment) else bytes(payload)

    def _run_value(self, name: str) -> bytes | Segment:
        payload = self._run_values.get(name)
        if payload is None:
            encoded = self._encoded(self._plan.context[name], "context_pickle", lambda path: name + path)
            if encoded.size > calls.INLINE_LIMIT:
                payload = self._segment(encoded.parts, encoded.size, "context_pickle", name)
            else:
                payload = encoded.to_bytes()
            self._run_values[name] = payload
        return payload

    def _encoded(self, value: object, stage: str, name_path: Callable[[str], str]) -> codec.Payload:
        try:
            return codec.encode(value, self.pins)
        except codec.EncodeError as error:
            if failpoints.armed and failpoints.hit("process_calls.unsendable"):
                raise
            raise Unsendable(Failure.payload(stage, name_path(error.path), error.reason)) from error
        except BaseException as error:
            raise Unsendable(Failure.payload(stage, name_path(""), _hostile(error))) from error

    def _encoded_whole(self, value: object, stage: str, name_path: Callable[[str], str]) -> bytes:
        encoded = self._encoded(value, stage, name_path)
        try:
            return encoded.to_bytes()
        except MemoryError as error:
            raise _no_room(encoded.size, error, stage, name_path("")) from error

    def _segment(self, parts: Iterable[Any], size: int, stage: str, path: str) -> Segment:
        try:
            return self._store.create(parts, size)
        except (OSError, MemoryError) as error:
            raise _no_room(size, error, stage, path) from error

    def _failures(self, task: int, attempt: int) -> bytes:
        found = self._inputs.failures(task, attempt)
        return codec.encode([(name, number, failure.to_bytes()) for name, number, failure in found]).to_bytes()


def _hostile(error: BaseException) -> str:
    """What user code raised while it was pickled. A real Ctrl-C is not raised here: its handler only notes it."""
    return f"pickling it raised {type(error).__name__}"


def _no_room(size: int, error: OSError | MemoryError, stage: str, path: str) -> Unsendable:
    reason = f"there is no place for its {size:,} bytes: {describe(error)}"
    return Unsendable(Failure.payload(stage.replace("_pickle", "_transfer"), path, reason))


def _args_path(path: str) -> str:
    """``[0][2].x`` within ``(args, kwargs)`` -> ``args[2].x``."""
    for index, name in enumerate(("args", "kwargs")):
        prefix = f"[{index}]"
        if path.startswith(prefix):
            return name + path[len(prefix) :]
    return "args" + path


def _job_path(path: str) -> str:
    """``[0].x`` within a job -> ``action.x``."""
    for index, name in enumerate(("action", "retry_on", "on_kill")):
        prefix = f"[{index}]"
        if path.startswith(prefix):
            return name + path[len(prefix) :]
    return "action" + path


def _heavy_code(task: str, job: tuple[Any, ...], size: int) -> str:
    from ..payload.weight import heaviest

    path, held = heaviest(job)
    where = f", {held / 1e6:,.0f} MB of them in {_job_path(path)}" if path else ""
    return (
        f"the code of task {task!r} takes {size / 1e6:,.0f} MB to each worker that runs it{where}; load such data in "
        "the task, or hand them on as another task's result"
    )


def _run_facts(plan: Plan, env: Mapping[str, str]) -> calls.RunFacts:
    try:
        cwd: str | None = os.getcwd()
    except FileNotFoundError:
        cwd = None  # deleted under us; workers stay where they are
    entries: list[Any] = sys.path
    path = [entry for entry in entries if isinstance(entry, str)]  # imports ignore anything else, too
    environ = {**os.environ, **env}
    return calls.RunFacts(plan.run_id, plan.pipeline_name, tuple(plan.context), path, cwd, environ)


def _state_of(action: Any) -> int:
    """The identity of what an action may change from call to call; 0 if there is nothing of the kind.

    A worker keeps what it has loaded, so two objects that look alike now must not become one there.
    """
    if type(action) is MethodType:
        return id(action.__self__)
    stateless = _is_constant(action) or (type(action) is FunctionType and all(map(_is_constant, _held_by(action))))
    return 0 if stateless else id(action)


def _is_constant(value: object) -> bool:
    if type(value) is FunctionType:
        return not _held_by(value)
    if type(value) is BuiltinFunctionType:
        return type(value.__self__) in {NoneType, ModuleType, type}  # else it is a method of some object
    return type(value) in _CONSTANT


def _held_by(function: FunctionType) -> list[object]:
    """The values of its defaults and its closure; a variable without a value yet may get any."""
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:
            held.append(cell)
    return held

"""Which class or function of one process is which of another: identity for code that travels by value.

A *token* (16 random bytes) names one class or function in all processes that have met it. Three rules make
``isinstance`` hold and leave the user's own classes alone:

1. The process that owns the original resolves its token to that very object and never applies anything to it.
2. A worker keeps one object per token. A class stays the same object over many runs; when a new run begins it is
   *stale*, and the next time it is met its attributes are brought up to date in place. (A function is replaced instead:
   nobody asks for the identity of a function across runs.)
3. What a worker received under a token it sends back as that token. Code that was made in a worker is sent by value,
   with a token of its own, so that all who receive it agree on one object too.

One object is right for identity and wrong for state: functions with state are no such objects (:mod:`.twins`), classes
made in workers get another token when they have changed (:mod:`.versions`), and what is pickled for anybody, in another
program, has none of its tokens (:func:`define_apart`).

What lives here: the tables and what pickles call to use them. What may not: pickling, and how a blob is made.

The tables are changed by single dictionary operations, which the interpreter makes atomic: a weak reference may report
a death at any moment, in any thread, so no lock is taken there. Where threads that load the same code at once have to
agree on more than that, a lock keeps them apart; nobody holds it while code is made or given its state.
"""

from __future__ import annotations

import os
from _thread import RLock
from _weakref import ref  # the module weakref is 1 ms of import for what this needs
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    #: A class, a function, or an object that is known by the name of a global (a sentinel, a NewType).
    Code: TypeAlias = Any
    #: Gives the object, or None if it is gone.
    Watch: TypeAlias = Callable[[], Code | None]

TOKEN_BYTES = 16

_token_of: dict[int, tuple[Watch, bytes]] = {}  # by id: a metaclass may make its classes unhashable
_object_of: dict[bytes, Watch] = {}
_from_above: set[bytes] = set()  # known to the process that this one is a worker of
_stale: set[bytes] = set()  # known object, but its state has yet to be loaded (again)
_unfinished: set[bytes] = set()  # functions that were made in this run and have no state yet
#: Keeps what a worker received alive until the next run, or each call would fetch it again.
_held: dict[bytes, Code] = {}
#: Functions that stay as they are over all runs.
_kept: dict[bytes, FunctionType] = {}
#: Reentrant: a global or an attribute that is replaced may be the end of an object, and that may load code.
loading = RLock()
_fetch: Callable[[bytes], bytes] | None = None
_load: Callable[[bytes], object] | None = None


class UnknownTokenError(LookupError):
    """No process knows the class or function of this token any more: its owner has let it go."""


def connect(fetch: Callable[[bytes], bytes], load: Callable[[bytes], object]) -> None:
    """Make this process a worker: unknown tokens are fetched from the process above."""
    global _fetch, _load
    _fetch, _load = fetch, load


def is_worker() -> bool:
    """Whether there is a process above."""
    return _fetch is not None


def begin_run() -> None:
    """Another run begins: what came from above may have changed there."""
    _stale.update(_from_above - _kept.keys())
    _unfinished.clear()
    _held.clear()


def all_from_above() -> list[Code]:
    """The classes and functions that the process above knows, too."""
    found = (known(token) for token in list(_from_above))
    return [code for code in found if code is not None]


def keep(function: FunctionType) -> None:
    """Never bring this function up to date again."""
    _kept[token_of(function)] = function


def token_of(code: Code) -> bytes:
    """The token of a class or function, made now if it has none."""
    entry = _token_of.get(id(code))
    if entry is not None and entry[0]() is code:
        return entry[1]
    token = os.urandom(TOKEN_BYTES)
    mine = _watched(code, token), token
    if entry is not None:
        _token_of[id(code)] = mine  # of something that died at this address
        return token
    holder, held = _token_of.setdefault(id(code), mine)
    if holder is not mine[0]:  # another thread was faster: all are to agree on its token
        del _object_of[token]
    return held


def token_from_above(code: Code) -> bytes | None:
    """The token under which the process above knows this class or function, if it does."""
    entry = _token_of.get(id(code))
    return entry[1] if entry is not None and entry[0]() is code and entry[1] in _from_above else None


def renew(code: Code) -> None:
    """It is no longer what its token stands for elsewhere: it gets another when it is asked for one."""
    entry = _token_of.pop(id(code), None)
    if entry is not None and _object_of.get(entry[1]) is entry[0]:
        del _object_of[entry[1]]


def _remember(code: Code, token: bytes) -> None:
    _token_of[id(code)] = _watched(code, token), token


def _watched(code: Code, token: bytes) -> Watch:
    """Enter the object of a token; first of all, for whoever reads the token elsewhere may use it at once."""
    key = id(code)

    def forget(dead: ref[Code]) -> None:
        if _token_of.get(key, (None,))[0] is dead:
            del _token_of[key]
        if _object_of.get(token) is dead:  # a function that was replaced must not take its successor with it
            del _object_of[token]
            _from_above.discard(token)
            _stale.discard(token)
            _unfinished.discard(token)

    try:
        watch: Watch = ref(code, forget)
    except TypeError:  # a sentinel that has slots. It is the value of a global, and there for good.
        watch = lambda: code  # noqa: E731
    _object_of[token] = watch
    return watch


def known(token: bytes) -> Code | None:
    """The class or function of this token, if this process has it."""
    weak = _object_of.get(token)
    return None if weak is None else weak()


def up_to_date(token: bytes) -> Code | None:
    """The class or function of this token, if this process has it as it is in this run."""
    return None if token in _stale else known(token)


def fetch_blob(token: bytes) -> bytes:
    """The blob of a token, from the process above."""
    if _fetch is None:
        raise UnknownTokenError(
            "a class or function that this value refers to no longer exists in the process that defined it; "
            "keep it referenced for as long as results are read"
        )
    return _fetch(token)


# --- called by pickles ------------------------------------------------------------------------------------------------


def resolve(token: bytes) -> Any:
    """The class or function of a token: this process's own, or fetched from the process above."""
    code = up_to_date(token)
    if code is not None:
        return code
    blob = fetch_blob(token)
    assert _load is not None, "set together with _fetch"
    return _load(blob)


def define(token: bytes, from_above: bool, make: Callable[..., Code], args: tuple[Any, ...]) -> Code:
    """A class or function that follows by value: the one known under this token, else a new, empty one.

    A new one stays stale until :func:`finish` has given it its state, so that a load that fails midway is repeated.
    Threads that load it at once get the same object, and each gives it its state before it uses it.
    """
    code = known(token)
    if _is_to_be_made(code, token):
        made = make(*args)
        with loading:
            code = known(token)
            if _is_to_be_made(code, token):
                code = made
                _unfinished.add(token)
                _stale.add(token)
                _remember(code, token)
    if from_above and _fetch is not None:
        _from_above.add(token)
        _held[token] = code
    return code


def define_apart(token: bytes, pickle: bytes, make: Callable[..., Code], args: tuple[Any, ...]) -> Code:
    """A class or function in a pickle for anybody: this program's own, else one that only that pickle has.

    Tokens of other programs are not used here: they may be met in many pickles, each with another state.
    """
    apart = combined(token, pickle)
    code = known(apart)
    if code is None:
        code = _own(token)
    return define(apart, from_above=False, make=make, args=args) if code is None else code


def _own(token: bytes) -> Code | None:
    code = up_to_date(token)
    if code is None and _fetch is not None:
        try:
            code = resolve(token)
        except Exception:  # noqa: BLE001 - the process above does not know it either, or cannot be asked any more
            return None
    return code


def combined(token: bytes, other: bytes) -> bytes:
    """A token made of two, as random as they are."""
    return (int.from_bytes(token, "big") ^ int.from_bytes(other, "big")).to_bytes(TOKEN_BYTES, "big")


def _is_to_be_made(code: Code | None, token: bytes) -> bool:
    if code is None:
        return True
    return token in _stale and token not in _unfinished and isinstance(code, FunctionType)


def finish(code: Code, state: tuple[Callable[[Code, Any], object], Any]) -> None:
    """Give what :func:`define` returned its state, unless it is up to date."""
    token = token_of(code)
    if token in _stale:
        set_state, content = state
        set_state(code, content)
        _stale.discard(token)
        _unfinished.discard(token)

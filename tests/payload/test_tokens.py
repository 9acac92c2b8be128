"""Tokens under threads: whoever asks at the same moment gets the same one."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest

from dremioframe.orchestration.payload import tokens


def test_threads_that_ask_at_once_agree(monkeypatch):
    def code():
        """To be told by token."""

    both_have_looked = threading.Barrier(2, timeout=10)
    plain_urandom = tokens.os.urandom

    def urandom(size):
        both_have_looked.wait()  # neither has found a token, both make one
        return plain_urandom(size)

    with monkeypatch.context() as patched:
        patched.setattr(tokens.os, "urandom", urandom)
        told = []
        threads = [threading.Thread(target=lambda: told.append(tokens.token_of(code))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 2
    assert told[0] == told[1] == tokens.token_of(code)
    assert tokens.known(told[0]) is code


def test_many_threads_agree_whatever_the_interleaving():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            cls = type("Local", (), {})
            told = []
            threads = [
                threading.Thread(target=lambda cls=cls, told=told: told.append(tokens.token_of(cls))) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(told) == 8
            assert len(set(told)) == 1
    finally:
        sys.setswitchinterval(interval)


def load_at_once(token, make, set_state):
    """What two threads get that load the same code, neither of which finds it known."""
    both_have_looked = threading.Barrier(2, timeout=10)
    loaded = []

    def slowly():
        both_have_looked.wait()
        return make()

    def load():
        code = tokens.define(token, False, slowly, ())  # noqa: FBT003 - as pickles call it
        tokens.finish(code, (set_state, "state"))
        loaded.append((code, code.state))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return loaded


def set_state(code, state):
    code.state = state


def make_class():
    return type("Local", (), {})


def make_function():
    return lambda: None


@pytest.mark.parametrize("make", [make_class, make_function])
def test_threads_that_load_the_same_code_at_once_get_one_object(make):
    [(first, state), (second, other_state)] = load_at_once(token := os.urandom(16), make, set_state)
    assert first is second is tokens.known(token)
    assert state == other_state == "state"


def test_threads_that_load_a_function_of_an_earlier_run_at_once_get_one_new_object():
    token = os.urandom(16)
    [(old, _), _] = load_at_once(token, make_function, set_state)
    tokens._stale.add(token)  # as the next run does
    [(first, state), (second, other_state)] = load_at_once(token, make_function, set_state)
    assert first is second is tokens.known(token)
    assert first is not old
    assert state == other_state == "state"


def test_a_function_whose_load_failed_gets_its_state_with_the_next():
    token = os.urandom(16)
    made = tokens.define(token, False, make_function, ())  # noqa: FBT003 - as pickles call it
    again = tokens.define(token, False, make_function, ())  # noqa: FBT003
    assert made is again
    tokens.finish(again, (set_state, "state"))
    assert again.state == "state"
    tokens.finish(again, (set_state, "another"))
    assert again.state == "state"


def test_nothing_stays_of_what_is_gone():
    before = len(tokens._token_of), len(tokens._object_of)
    token = tokens.token_of(type("Local", (), {}))
    gc.collect()
    assert tokens.known(token) is None
    assert (len(tokens._token_of), len(tokens._object_of)) <= before

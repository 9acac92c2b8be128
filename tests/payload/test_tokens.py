"""Tokens under threads: whoever asks at the same moment gets the same one."""

from __future__ import annotations

import gc
import sys
import threading

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


def test_nothing_stays_of_what_is_gone():
    before = len(tokens._token_of), len(tokens._object_of)
    token = tokens.token_of(type("Local", (), {}))
    gc.collect()
    assert tokens.known(token) is None
    assert (len(tokens._token_of), len(tokens._object_of)) <= before

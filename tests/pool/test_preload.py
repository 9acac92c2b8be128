"""Preloading: what may be preloaded, what is refused, and how that is told."""

from __future__ import annotations

import pytest

from dremioframe.orchestration.errors import WorkerStartError


def refusal(client):
    with pytest.raises(WorkerStartError) as caught:
        client.end(client.submit("pass"))
    return caught.value


@pytest.mark.parametrize("module", ["pandas", "pyarrow"])
def test_u33_pyarrow_and_what_imports_it_can_be_preloaded(make_pool, connect, monkeypatch, module):
    monkeypatch.delenv("JE_ARROW_MALLOC_CONF", raising=False)
    client = connect(make_pool(preload=(module,)))
    source = f"import os, sys; out = repr(({module!r} in sys.modules, os.environ['JE_ARROW_MALLOC_CONF'])).encode()"
    assert client.run(source) == b"(True, 'background_thread:false')"


def test_u33_the_users_own_allocator_settings_win_and_the_thread_is_named(make_pool, connect, monkeypatch):
    monkeypatch.setenv("JE_ARROW_MALLOC_CONF", "background_thread:true")
    error = refusal(connect(make_pool(preload=("pyarrow",))))
    assert "preload module 'pyarrow' leaves threads running (native thread 'jemalloc_bg_thd'" in str(error)

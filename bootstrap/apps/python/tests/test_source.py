from __future__ import annotations


import os
import pickle
import signal
import threading
from collections.abc import Callable

import pytest
from conftest import Script, Settable, eventually

from smvm import Credentials, ReadError, Source, reload_on_hangup

Open = Callable[..., Source]


def test_refresh_is_shared(opened: Open) -> None:
    """Many ask at the same time: few reads answer them all."""
    reader = Script()
    source = opened(reader)
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(source.refresh())) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answers) and len(answers) == 100 and 2 <= reader.reads <= 12


def test_keeps_the_last_values(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a read or a watcher raises, the thread goes on, and logs nothing that could be a value."""
    reader = Script()
    source = opened(reader)

    def broken(_: Credentials) -> None:
        raise ValueError("hunter2")

    source.on_change(broken)
    reader.away = True
    for reader.error in (ReadError("Vault is away"), RuntimeError("hunter2")):
        assert not source.refresh() and source.current.version == 1 and source.failing > 0
    reader.away = False
    read, reader.read = reader.read, lambda have: None  # type: ignore
    assert not source.refresh() and source.running
    reader.read = read  # type: ignore[method-assign]
    assert source.refresh() and source.current.version > 1 and source.failing == 0
    assert source.refresh() and source.running
    assert "Vault is away" in caplog.text and "RuntimeError" in caplog.text and "hunter2" not in caplog.text


def test_opening_gives_up() -> None:
    reader = Script()
    reader.away = True
    with pytest.raises(ReadError, match="Vault is away"):
        Source(reader, patience=0.05, min_interval=0.01)


def test_follows_ttl(opened: Open) -> None:
    """It reads when ttl has passed, and tells of other values also where the version is the same."""
    reader = Settable(api_key="a")
    reader.credentials.ttl = 0.02
    source = opened(reader)
    seen: list[int] = []
    source.on_change(lambda credentials: seen.append(credentials.version))
    reader.credentials = Credentials(1, {"api_key": "b"}, 0.02)
    eventually("the new value", lambda: source.current.value("api", "key") == "b")
    eventually("the watcher", lambda: seen == [1])


def test_hangup(opened: Open) -> None:
    source = opened(Script())
    before = signal.getsignal(signal.SIGHUP)
    try:
        reload_on_hangup(source)
        eventually("a read by itself", lambda: source.current.version > 1)
        version = source.current.version
        for _ in range(100):
            os.kill(os.getpid(), signal.SIGHUP)
        eventually("a read by the signal", lambda: source.current.version > version)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_fork(opened: Open) -> None:
    """A child has a thread of its own, whatever the parent's held at that moment."""
    source = opened(Script())
    with source._lock:  # as if another thread had it
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if source.running and source.refresh() and source.current.version > 1 else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert source.refresh()


def test_flood_of_unknown(opened: Open) -> None:
    """Wrong keys take no more threads than a few, while Vault hangs."""
    reader = Script()
    source = opened(reader)
    hangs = threading.Event()
    read = reader.read
    reader.read = lambda have: (hangs.wait(10), read(have))[1]  # type: ignore[method-assign]
    waiting = [threading.Thread(target=lambda: source.settle(lambda _: None)) for _ in range(50)]
    for thread in waiting:
        thread.start()
    try:
        eventually("all but sixteen to end", lambda: sum(thread.is_alive() for thread in waiting) <= 16)
    finally:
        hangs.set()
        for thread in waiting:
            thread.join()


def test_closed(opened: Open) -> None:
    source = opened(Script())
    source.close()
    assert not source.refresh() and not source.running and source.current.version == 1


def test_redacted(opened: Open) -> None:
    current = opened(Settable(db_password="hunter2")).current
    assert {str(current), repr(current), f"{current}", "%s" % current} == {"[redacted]"}
    assert not hasattr(current, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(current)


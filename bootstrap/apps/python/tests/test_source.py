from __future__ import annotations


import asyncio
import copy
import itertools
import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Script, Settable, eventually

import smvm.source
from smvm import AppRole, Credentials, ReadError, Source, Vault, keys, reload_on_hangup

Open = Callable[..., Source]


def test_refresh_is_shared(opened: Open) -> None:
    """Many ask at the same time: few reads answer them all."""
    reader = Script()
    source = opened(reader, min_interval=0.5)  # a busy machine starts threads slowly
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
    eventually("the log of the watcher", lambda: "broken, given to on_change, failed in" in caplog.text)
    assert "test_source.py, line " in caplog.text
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


def test_burst_of_a_new_key(opened: Open) -> None:
    """A key that was not read yet is accepted, however many offer it at once: all wait for the same read."""
    reader = Settable(api_key="old")
    source = opened(reader, min_interval=1.0)
    eventually("a read to be possible", lambda: source.age > 1.2)
    reader.set(api_key="new")
    read = reader.read
    reader.read = lambda have: (time.sleep(0.1), read(have))[1]  # type: ignore[method-assign]
    accepted: list[bool] = []
    offering = [threading.Thread(target=lambda: accepted.append(keys.accepts(source, "new"))) for _ in range(64)]
    for thread in offering:
        thread.start()
    for thread in offering:
        thread.join()
    assert accepted == [True] * 64


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


def test_a_watcher_that_hangs(opened: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on, others are told, the log names it, and in the end it gets the newest values."""
    monkeypatch.setattr(smvm.source, "_BUSY", 0.05)
    source = opened(Settable(api_key="a"))
    go, got, others = threading.Event(), [0], [0]

    def hangs(credentials: Credentials) -> None:
        go.wait(60)
        got.append(credentials.version)

    source.on_change(hangs)
    source.on_change(lambda credentials: others.append(credentials.version))
    reader = source._reader
    assert isinstance(reader, Settable)
    for version in (2, 3):
        reader.set(api_key=str(version))
        assert source.refresh() and source.current.version == version
        eventually("the other watcher", lambda: others[-1] == version)
    eventually("the log", lambda: "hangs, given to on_change, has not returned" in caplog.text)
    go.set()
    eventually("the newest", lambda: got[-1] == 3)


async def _asynchronous(_: Credentials) -> None: ...


@pytest.mark.parametrize("wrong", ["hunter2", None, lambda: None, lambda one, two: None, _asynchronous])
def test_what_is_no_watcher(opened: Open, wrong: Any) -> None:
    with pytest.raises(TypeError, match="watcher has to be a function, made by def, that takes the new credentials") as failure:
        opened(Script()).on_change(wrong)
    assert "hunter2" not in str(failure.value)


def test_an_event_loop_that_waits_is_told_of(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    source = opened(Script())

    async def route() -> None:
        for _ in range(2):
            source.settle(lambda _: None)

    source.settle(lambda _: None)
    assert "async def" not in caplog.text
    asyncio.run(route())
    assert caplog.text.count("waits in an `async def` function") == 1


def test_one_for_each_request_is_told_of(opened: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Source, "_made", itertools.count(1))
    for _ in range(9):
        opened(Script())
    assert "of this process" not in caplog.text
    for _ in range(5):
        opened(Script())
    assert caplog.text.count("this is Source number 10 of this process: make one when the process starts") == 1


def test_a_source_is_for_one_process(opened: Open) -> None:
    source = opened(Script())
    for copy_it in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="a Source is for one process .* make one in each process"):
            copy_it(source)


@pytest.mark.parametrize("reader", ["smvm/creds/orders", None, Vault, AppRole("role_id", "secret_id")])
def test_what_is_no_reader(reader: Any) -> None:
    with pytest.raises(TypeError, match=r"reader has to be a Vault\(...\), .*, not ") as failure:
        Source(reader)
    assert "smvm/creds" not in str(failure.value)


def test_fields(opened: Open) -> None:
    """A field that is misspelt is an error, one that comes and goes is not."""
    current = opened(Settable(db_username="orders_a", db_host="", api_key="hunter2")).current
    assert current.value("db", "host") == current.value("api", "previous_key") == current.get("db", "user") == ""
    for secret, field, told in (("db", "user", "no db_user; there is db_host, db_username$"), ("database", "host", "api_key, db_host")):
        with pytest.raises(ValueError, match=told) as failure:
            current.value(secret, field)
        assert "hunter2" not in str(failure.value)


def test_age(opened: Open) -> None:
    """While Vault is away, the values get older."""
    reader = Script()
    source = opened(reader)
    reader.away = True
    assert not source.refresh()
    before = source.age
    eventually("it gets older", lambda: source.age > before and not source.refresh())
    reader.away = False
    assert source.refresh()
    assert re.match(r"version \d+, read \d+ s ago from ", source.origin)


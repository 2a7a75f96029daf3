"""The Source: holds the current credentials of a role and keeps them current."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import os
import queue
import random
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn, TypeVar

from .credentials import Credentials, Reader, ReadError, demand

log = logging.getLogger("smvm")

T = TypeVar("T")

# The longest pause after reads that did not succeed, in seconds.
_MAX_BACKOFF = 15.0
# How long a request may be held up by a key that looks new, in seconds, and how many
# requests at once, where the next read can't begin yet or does not end. Beyond that, keys
# are judged by what was read last: so a flood of wrong keys does not take all threads of a
# service.
_DOUBT = 3.0
_MAX_DOUBTS = 16
# How long a watcher may still be busy with other credentials when new ones are to be told, in seconds.
_BUSY = 10.0


class _Round:
    """One read that somebody waits for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.succeeded = False
        self.began = self.ended = 0.0  # by time.monotonic()

    def end(self, succeeded: bool) -> None:
        self.succeeded, self.ended = succeeded, time.monotonic()
        self.done.set()


class OncePerProcess:
    """What a process makes once, and keeps: its log tells when it is made again and again, and no other process gets it."""

    _made: ClassVar[Iterator[int]]

    def __init_subclass__(cls) -> None:
        cls._made = itertools.count(1)

    def __init__(self) -> None:
        number = next(self._made)
        if number in (10, 100, 1000, 10_000):
            log.warning(
                "this is %s number %d of this process: make one when the process starts, and not one for each request or "
                "task: each has connections and threads of its own", type(self).__name__, number,
            )  # fmt: skip

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is for one process and cannot be copied: make one in each process that is spawned")


class Source(OncePerProcess):
    """Holds the current credentials of a role and keeps them current, in one thread of its own.

    Make one when the process starts. It reads at once, again whenever ttl has passed, and when it
    is asked to. While a read does not succeed it keeps the last values and tries again, with pauses of
    up to 15 seconds. All methods may be called from all threads. After a fork, the child
    reads by itself, in a thread of its own.
    """

    _lock: threading.Lock
    _round: _Round | None  # the read that has not begun
    _latest: _Round  # the read that has begun last
    _wake: queue.SimpleQueue[None]
    _doubts: threading.BoundedSemaphore

    def __init__(self, reader: Reader, *, patience: float = 60.0, min_interval: float = 0.5) -> None:
        """Read the credentials, again and again until it works; after patience seconds raise ReadError.

        min_interval is the least time between two reads, in seconds, however many are asked for.
        """
        demand(reader, "read", "reader has to be a Vault(...), an AgentFiles(...) or another Reader")
        super().__init__()
        self._reader = reader
        self._min_interval = min_interval
        self._watchers: list[_Watcher] = []
        self._failing = 0
        self._blocks_loop = False
        self._closed = False
        self._fresh()
        deadline = time.monotonic() + patience
        while True:
            began = time.monotonic()
            try:
                self._current = self._confirmed = reader.read(None)
                self._read_at = began
                break
            except ReadError as error:
                pause = self._pause()
                if time.monotonic() + pause > deadline:
                    raise ReadError(f"no credentials after {patience:g} s: {error}") from None
                log.warning("read credentials: there are none yet (%d failures): %s", self._failing, error)
            time.sleep(pause)
        self._failing = 0
        self._due = 0.0  # by time.monotonic(): a read that begins before confirms nothing
        self._start()
        renew_after_fork(self, Source._in_child)

    @property
    def current(self) -> Credentials:
        """The newest credentials that were read."""
        return self._current

    @property
    def confirmed(self) -> Credentials:
        """The newest credentials that a later read, ttl or more after the first one, has found again.

        Newer ones other instances may not have read yet, so tokens.sign does not sign with them.
        """
        return self._confirmed

    @property
    def failing(self) -> int:
        """How many reads in a row did not succeed: 0 when all is well."""
        return self._failing

    @property
    def age(self) -> float:
        """How long ago the last read that succeeded began, in seconds.

        With a Vault, the values are those that Vault had then; with files, those that the files had.
        """
        return time.monotonic() - self._read_at

    @property
    def origin(self) -> str:
        """Where the credentials are from and how old they are, for a log."""
        return f"version {self._current.version}, read {self.age:.0f} s ago from {self._reader}"

    @property
    def running(self) -> bool:
        """Whether the thread that reads is alive. A health check should look."""
        return self._thread.is_alive()

    def on_change(self, watcher: Callable[[Credentials], None]) -> None:
        """Have watcher called, in a thread for it, when other values have come into use.

        What it raises is logged, and changes nothing else. While it has not returned it is not called
        again, which the log tells; then it is given the newest.
        """
        wanted = "watcher has to be a function, made by def, that takes the new credentials"
        demand(watcher, "__call__", wanted)
        try:
            inspect.signature(watcher).bind(self._current)
        except TypeError:
            raise TypeError(f"{wanted} as its only argument") from None
        except ValueError:
            pass  # of some functions written in C nobody knows
        if inspect.iscoroutinefunction(watcher):
            raise TypeError(f"{wanted}, not by async def")
        with self._lock:
            self._watchers.append(_Watcher(watcher))

    def refresh(self, timeout: float = 10.0) -> bool:
        """Read now, or as soon as min_interval allows, and say whether that worked within timeout seconds.

        Whoever asks while that read has not begun waits for the same one.
        """
        if self._closed:
            return False
        self.mind_loop()
        with self._lock:
            waiting = self._round = self._round or _Round()
        self.nudge()
        return waiting.done.wait(timeout) and waiting.succeeded

    def settle(self, find: Callable[[Credentials], T | None]) -> T | None:
        """Return what find finds in the credentials; if that is None, read again and look once more.

        For what another instance may have seen first: an unknown key id, an unknown API key.
        It blocks for min_interval at most and, 16 threads at a time, for 3 seconds more.
        """
        found = find(self.current)
        if found is not None:
            return found
        read = self._read_now()
        found = find(self.current)
        if found is None and not read and self._doubts.acquire(blocking=False):
            try:
                self.refresh(_DOUBT)
            finally:
                self._doubts.release()
            found = find(self.current)
        return found

    def _read_now(self) -> bool:
        """Wait for the read that is under way or can begin now, unless reads fail, and no longer than min_interval.

        Return whether one that can begin now worked.
        """
        if self._failing or self._closed:
            return False
        self.mind_loop()
        now = time.monotonic()
        with self._lock:
            latest, begins = self._latest, False
            if latest.done.is_set() and now >= latest.ended + self._min_interval:
                latest, begins = self._round or _Round(), True
                self._round = latest
        if begins:
            self.nudge()
            latest.done.wait(self._min_interval)
        else:
            latest.done.wait(max(0.0, latest.began + self._min_interval - now))
        return begins and latest.succeeded

    def nudge(self) -> None:
        """Ask for a read without waiting for it. A signal handler may call it: it takes no lock."""
        self._wake.put(None)

    def close(self) -> None:
        """End the reading. The last credentials stay usable."""
        self._closed = True
        self.nudge()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _fresh(self) -> None:
        """Make what threads share: a child of a fork has none of the threads that may hold it."""
        self._lock = threading.Lock()
        self._round, self._latest = None, _Round()
        self._latest.end(True)
        self._wake = queue.SimpleQueue()
        self._doubts = threading.BoundedSemaphore(_MAX_DOUBTS)
        self._watchers = [_Watcher(each.call) for each in self._watchers]

    def mind_loop(self) -> None:
        """Log it, once, if this thread runs an event loop, which a wait here stops."""
        if self._blocks_loop:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self._blocks_loop = True
        log.warning(
            "a call of smvm waits in an `async def` function, and stops all others of its event loop meanwhile: make "
            "the function by `def` (FastAPI runs it in a thread), or use asyncio.to_thread"
        )

    def _in_child(self) -> None:
        self._fresh()
        if not self._closed:
            self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="smvm-source", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = max(0.0, self._current.ttl)
        while True:
            began = time.monotonic()
            self._sleep(pause)
            # Whoever asked waits for the read that follows, and for no more than one.
            time.sleep(max(0.0, began + self._min_interval - time.monotonic()))
            self._drop_nudges()
            waiting = self._take_round()
            if self._closed:
                waiting.end(False)
                return
            pause = self._read(waiting)

    def _sleep(self, pause: float) -> None:
        try:
            self._wake.get(timeout=pause)
        except queue.Empty:
            pass

    def _drop_nudges(self) -> None:
        try:
            while True:
                self._wake.get_nowait()
        except queue.Empty:
            pass

    def _take_round(self) -> _Round:
        with self._lock:
            waiting, self._round = self._round or _Round(), None
            waiting.began, self._latest = time.monotonic(), waiting
        return waiting

    def _read(self, waiting: _Round) -> float:
        """Read once, tell those who wait, and return after how many seconds to read again."""
        have, began = self._current, time.monotonic()
        try:
            fresh = self._reader.read(have)
            pause, changed = max(0.0, fresh.ttl), not fresh.same_values(have)
        except Exception as error:  # whatever it is, this thread goes on
            pause = self._pause()
            log.warning("read credentials: keeping the last ones (%d failures): %s", self._failing, _told(error))
            waiting.end(False)
            return pause
        if self._failing:
            log.info("read credentials: it works again, after %d failures", self._failing)
        self._failing, self._current, self._read_at = 0, fresh, began
        if changed:
            self._due = began + pause
        if began >= self._due:
            self._confirmed = fresh
        waiting.end(True)
        if changed:
            self._announce(fresh, have)
        return pause

    def _pause(self) -> float:
        """Count a failure, and return the pause after it: twice as long each time, with jitter."""
        self._failing += 1
        pause = min(self._min_interval * 2 ** min(self._failing, 8), _MAX_BACKOFF)
        return random.uniform(pause / 2, pause)

    def _announce(self, fresh: Credentials, have: Credentials) -> None:
        if fresh.version == have.version:
            log.info("other credentials of version %d: its overlap has ended, or somebody has changed something else", fresh.version)
        else:
            log.info(
                "new credentials: version %d, before %d; a copy of the earlier ones is refused now or when their overlap ends",
                fresh.version, have.version,
            )  # fmt: skip
        with self._lock:
            watchers = list(self._watchers)
        for watcher in watchers:
            # Not in this thread, which has to read on if a watcher blocks.
            telling = threading.Thread(target=self._tell, args=(watcher,), name="smvm-watcher", daemon=True)
            try:
                telling.start()
            except RuntimeError as error:  # the system has no more threads, or Python ends
                log.error("take over new credentials: no watcher was called: %s", error)

    def _tell(self, watcher: _Watcher) -> None:
        name = getattr(watcher.call, "__qualname__", type(watcher.call).__name__)
        if not watcher.busy.acquire(timeout=_BUSY):
            log.error("take over new credentials: %s, given to on_change, has not returned from the call before: it hangs?", name)
            watcher.busy.acquire()
        try:
            fresh = self._current
            if watcher.told is None or not fresh.same_values(watcher.told):
                watcher.told = fresh
                watcher.call(fresh)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "take over new credentials: %s, given to on_change, failed in %s, line %d: %s",
                name, last.filename, last.lineno, _told(error),
            )  # fmt: skip
        finally:
            watcher.busy.release()


class _Watcher:
    """A function of on_change, whether it is being called, and what it was called with last."""

    def __init__(self, call: Callable[[Credentials], None]) -> None:
        self.call, self.busy = call, threading.Lock()
        self.told: Credentials | None = None


def _told(error: Exception) -> str:
    """What may be logged of an error: the text only of those that are known to hold no secret."""
    return str(error) if isinstance(error, ReadError) else type(error).__name__


def reload_on_hangup(source: Source) -> None:
    """Have SIGHUP, which `systemctl reload` sends, make the source read at once.

    Call it in the main thread. Until then SIGHUP ends the process, as is usual; so have it
    ignored before Python runs, by `env --ignore-signal=HUP python3 …`. Nothing gets
    lost by that: this reads once by itself.
    """
    signal.signal(signal.SIGHUP, lambda _number, _frame: source.nudge())
    source.nudge()


def renew_after_fork(owner: T, renew: Callable[[T], Any]) -> None:
    """Have renew called with owner in each child that this process forks, while owner exists."""
    reference = weakref.ref(owner)

    def in_child() -> None:
        alive = reference()
        if alive is not None:
            renew(alive)

    os.register_at_fork(after_in_child=in_child)

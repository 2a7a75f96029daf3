"""A pool of psycopg2 connections that moves to new logins by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2

from .connect import CommitUnknown, Connection, alive, connect, give_up, lost, once_more, plain, read_only, ready
from .credentials import Credentials, demand
from .place import Login, PlaceError, check_options, login
from .source import OncePerProcess, Source, renew_after_fork

__all__ = ["CommitUnknown", "Connection", "Pool", "PoolTimeout"]

T = TypeVar("T")


class PoolTimeout(Exception):
    """All connections were in use for as long as the pool waits."""


class Pool(OncePerProcess):
    """Connections for the threads of one process, made with the current login of a secret.

    Make one when the process starts.

    New connections use a new login as soon as it was read. Connections of other logins are closed:
    idle ones at once, those in use when they come back. No query is interrupted. A connection that
    the server has ended is not handed out. Settings that your code made with SET stay; only
    autocommit is reset. After a fork the child has an empty pool.
    """

    _lock: threading.Lock
    _idle: list[Connection]
    _slots: threading.BoundedSemaphore

    def __init__(
        self, source: Source, secret: str = "db", *, maximum: int = 10, timeout: float = 10.0, at: str = "", **options: str
    ) -> None:
        """Make an empty pool; it connects when it has to.

        maximum is how many connections there are at most. timeout bounds how long one is waited for,
        in seconds, while all are in use and while the server lets nobody in. at is another server
        than the credentials name, such as a PgBouncer, without a login and with its sslmode. options
        are more parameters of libpq, such as application_name="orders".
        """
        demand(source, "on_change", "source has to be a Source(...)")
        if maximum < 1:
            raise ValueError(f"maximum has to be 1 or more connections, not {maximum}")
        check_options(options)
        super().__init__()
        self._source, self._secret, self._at, self._options = source, secret, at, options
        self._maximum, self._timeout = maximum, timeout
        self._closed = False
        self._known: tuple[Credentials, Login] | None = None
        self._fresh()
        self._login(source.current)  # raises PlaceError now rather than at the first request
        source.on_change(lambda _: self._drain())
        renew_after_fork(self, Pool._fresh)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Hand out a connection for a with block: one transaction, committed at its end.

        If the block raises, it is rolled back. Raises PoolTimeout, psycopg2.Error, and CommitUnknown.
        """
        with self._held() as held:
            yield held
            self._commit(held)

    def with_retry(self, work: Callable[[Connection], T], *, idempotent: bool = False) -> T:
        """Run work(connection) as one transaction, and return what it returns after the COMMIT.

        If the connection ends meanwhile, work runs once more on another, from its beginning: so do
        nothing in it but what a rollback undoes. It is not repeated if a COMMIT was sent, or if work
        set autocommit: then this raises CommitUnknown. With idempotent it is repeated even then; that
        is for reads, and for writes that may be done twice.

        If the server turns out to be a standby, as behind a pooler in the midst of a failover, this
        waits for a primary, timeout seconds at most, and runs work there.
        """
        before: psycopg2.Error | None = None
        while True:
            try:
                return self._once(work, before)
            except _Lost as now:
                if now.maybe_committed and (before or not idempotent):
                    raise CommitUnknown from now.error
                if not once_more(before, now.error):
                    raise now.error
                before = now.error

    def close(self) -> None:
        """Close the idle connections now, and those in use when they come back."""
        self._closed = True
        self._drain()

    def _once(self, work: Callable[[Connection], T], before: psycopg2.Error | None) -> T:
        with self._held(before) as held:
            try:
                result = plain(work(held))
                self._commit(held)
                return result
            except psycopg2.Error as error:
                if not lost(held, error):
                    raise
                committed = held.commit_sent or held.autocommit
                give_up(held)
                raise _Lost(error, committed) from None
            except CommitUnknown as unknown:
                assert isinstance(unknown.__cause__, psycopg2.Error)
                raise _Lost(unknown.__cause__, True) from None

    def _commit(self, held: Connection) -> None:
        """Commit. A session that has ended already is noticed before COMMIT is sent, which leaves no doubt."""
        if not alive(held):
            give_up(held)
            raise psycopg2.OperationalError(
                "the session ended before COMMIT was sent: the server ended it, or the application closed the connection"
            )
        try:
            held.commit()
        except psycopg2.Error as error:
            if held.closed:
                raise CommitUnknown from error
            raise

    @contextmanager
    def _held(self, before: psycopg2.Error | None = None) -> Iterator[Connection]:
        if self._closed:
            raise psycopg2.InterfaceError("the pool is closed")
        self._source.mind_loop()
        slots = self._slots  # a child of a fork has others
        deadline = time.monotonic() + self._timeout
        if not slots.acquire(timeout=self._timeout):
            raise PoolTimeout(
                f"all {self._maximum} connections (maximum) were in use for {self._timeout:g} s; is one kept, or another taken inside of it?"
            )
        try:
            held = self._take(deadline, before)
            try:
                yield held
            finally:
                if slots is self._slots:  # else this is a child that was forked here, and held is the parent's
                    self._give_back(held)
        finally:
            slots.release()

    def _take(self, deadline: float, before: psycopg2.Error | None) -> Connection:
        """Take an idle connection or make one.

        Who has just lost one, by the error before, gets one that is made: the others may be ending too.
        """
        while (idle := self._pop()) is not None:
            if not before and not self._stale(idle) and ready(idle):
                idle.commit_sent = False
                return idle
            give_up(idle)
        return connect(self._source, self._login, deadline, primary=before is not None and read_only(before))

    def _give_back(self, held: Connection) -> None:
        try:
            if not held.closed:
                held.rollback()
                held.autocommit = False
        except psycopg2.Error:
            give_up(held)
        with self._lock:
            self._idle.append(held)  # before the look at the login: a change after it drains
        if self._stale(held):
            self._drain()

    def _drain(self) -> None:
        """Close the idle connections that are not of the current login."""
        with self._lock:
            end = [idle for idle in self._idle if self._stale(idle)]
            self._idle = [idle for idle in self._idle if idle not in end]
        for idle in end:
            give_up(idle)

    def _stale(self, connection: Connection) -> bool:
        """Whether a connection is to be closed instead of handed out again."""
        if self._closed or connection.closed:
            return True
        try:
            return connection.login != self._login(self._source.current)
        except PlaceError:
            return False  # whoever needs a new connection is told

    def _pop(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _login(self, credentials: Credentials) -> Login:
        known = self._known
        if known is None or known[0] is not credentials:
            known = self._known = credentials, login(credentials, self._secret, self._at, self._options)
        return known[1]

    def _fresh(self) -> None:
        """Begin without connections. In a child of a fork they are the parent's, and psycopg2 leaves them open there."""
        self._lock = threading.Lock()
        self._idle = []
        self._slots = threading.BoundedSemaphore(self._maximum)


class _Lost(Exception):
    """A transaction whose connection ended."""

    def __init__(self, error: psycopg2.Error, maybe_committed: bool) -> None:
        super().__init__("the connection ended")
        self.error, self.maybe_committed = error, maybe_committed


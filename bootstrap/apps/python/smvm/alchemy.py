"""An engine of SQLAlchemy that moves to new logins by itself, and a retry for its transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg2
from sqlalchemy import event, exc, text
from sqlalchemy.engine import Connection, Engine

from .connect import CommitUnknown, alive, connect, lost, once_more, plain, read_only, ready
from .credentials import Credentials, demand
from .place import Login, PlaceError, check_options, login
from .source import Source, renew_after_fork

__all__ = ["CommitUnknown", "follow", "with_retry"]

T = TypeVar("T")

# Whether new connections have to be to a primary.
_primary: ContextVar[bool] = ContextVar("smvm_primary", default=False)


def follow(engine: Engine, source: Source, secret: str = "db", *, timeout: float = 10.0, at: str = "", **options: str) -> None:
    """Have an engine connect with the current login of a secret, and move to new ones.

    Make the engine by create_engine("postgresql+psycopg2://"): where it goes and who logs in are
    the credentials'. timeout, at and options are those of pool.Pool. Idle connections of other
    logins are closed when new ones were read, those in use when they come back. A connection that
    the server has ended is not handed out. After a fork the child has an empty pool.
    """
    demand(source, "on_change", "source has to be a Source(...)")
    check_options(options)

    def current(credentials: Credentials) -> Login:
        return login(credentials, secret, at, options)

    def stale(connection: Any) -> bool:
        try:  # a connection that the engine had before has no login
            return bool(getattr(connection, "login", None) != current(source.current))
        except PlaceError:
            return False  # whoever needs a new connection is told

    @event.listens_for(engine, "do_connect")  # type: ignore[misc]
    def do_connect(_dialect: object, _record: object, _args: object, _parameters: object) -> Any:
        return connect(source, current, time.monotonic() + timeout, primary=_primary.get())

    @event.listens_for(engine, "checkout")  # type: ignore[misc]
    def checkout(connection: Any, _record: object, _fairy: object) -> None:
        if stale(connection) or not ready(connection):
            raise exc.DisconnectionError("the login is of before, or the server has ended the session")

    @event.listens_for(engine, "checkin")  # type: ignore[misc]
    def checkin(connection: Any, record: Any) -> None:
        # A connection that was in use at the change comes back to a pool that nobody has any more.
        if connection is not None and stale(connection):
            record.invalidate()

    known = current(source.current)  # raises PlaceError now rather than at the first request

    def drain(fresh: Credentials) -> None:
        nonlocal known
        before, known = known, current(fresh)
        if known != before:
            engine.dispose()

    source.on_change(drain)
    renew_after_fork(engine, lambda it: it.dispose(close=False))


def with_retry(engine: Engine, work: Callable[[Connection], T], *, idempotent: bool = False) -> T:
    """Run work(connection) as one transaction, and return what it returns after the COMMIT.

    If the connection ends meanwhile, work runs once more on another, as pool.Pool.with_retry does,
    and with the same limits: not if a COMMIT was sent, unless idempotent; then this raises
    CommitUnknown. Where the server is a standby, it waits for a primary as that does.
    """
    before: psycopg2.Error | None = None
    while True:
        demanded = _primary.set(before is not None and read_only(before))
        try:
            return _once(engine, work)
        except _Lost as now:
            if now.maybe_committed and (before or not idempotent):
                raise CommitUnknown from now.error
            if not once_more(before, now.driver):
                raise now.error
            if read_only(now.driver):
                engine.dispose()  # the idle connections are to the standby as well
            before = now.driver
        finally:
            _primary.reset(demanded)


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        driver.commit_sent = False
        try:
            with connection.begin():
                result = plain(work(connection))
                if not alive(driver):
                    # Before COMMIT is sent, which leaves no doubt.
                    connection.execute(text("SELECT 1"))
            return result
        except exc.DBAPIError as error:
            failed = error.orig
            if not isinstance(failed, psycopg2.Error) or not lost(driver, failed):
                raise
            maybe_committed = driver.commit_sent or driver.autocommit
            connection.invalidate()
            raise _Lost(error, failed, maybe_committed) from None


class _Lost(Exception):
    """A transaction whose connection ended, or led to a standby; driver is what the driver said of it."""

    def __init__(self, error: exc.DBAPIError, driver: psycopg2.Error, maybe_committed: bool) -> None:
        super().__init__("the connection ended")
        self.error, self.driver, self.maybe_committed = error, driver, maybe_committed

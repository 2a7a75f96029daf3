"""Connect to PostgreSQL with the current login, and find out what became of a connection."""

from __future__ import annotations

import inspect
import logging
import re
import select
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2
import psycopg2.errors
from psycopg2 import extensions

from .credentials import Credentials
from .place import Login
from .source import Source

log = logging.getLogger("smvm")

T = TypeVar("T")

# How often one caller offers logins that the server refuses.
_MAX_REFUSALS = 10
# The pauses after attempts that failed, in seconds.
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 1.0
# SQLSTATE read_only_sql_transaction: the server has become a standby.
_READ_ONLY = "25006"


class CommitUnknown(Exception):
    """The connection ended after a COMMIT had been sent and before it was answered.

    The transaction may have been committed or not, and nobody can tell from here, so it was not
    repeated. Look in the database before you do.
    """

    def __init__(self) -> None:
        super().__init__("the connection ended before COMMIT was answered: the transaction may be committed or not")


class Connection(extensions.connection):  # type: ignore[misc]
    """A psycopg2 connection that knows with which login it was made, and whether something may be committed.

    It notices commit(), `with connection:` and autocommit = True, but not set_session, not the
    statement COMMIT and not procedures that commit: leave those to transactions that are not repeated.
    """

    login: Login
    commit_sent = False

    def commit(self) -> None:
        """Commit the transaction. If a statement of it has failed, raise: PostgreSQL answers such a COMMIT without committing."""
        if self.info.transaction_status == extensions.TRANSACTION_STATUS_INERROR:
            raise psycopg2.errors.InFailedSqlTransaction(
                "nothing was committed, because a statement failed and its error was caught: let it out, or use a SAVEPOINT"
            )
        self.commit_sent = True
        super().commit()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "autocommit" and value:
            self.commit_sent = True
        super().__setattr__(name, value)


def connect(
    source: Source, login: Callable[[Credentials], Login], deadline: float, *, primary: bool = False
) -> Connection:
    """Connect with the login of the source's credentials, and until deadline (time.monotonic()) again.

    After each attempt that failed it reads the credentials again: at once with a new login, otherwise
    after a pause. It gives up after ten refused logins, and raises the last psycopg2.OperationalError.
    With primary, a server that is a standby counts as a failure.
    """
    failures, refusals, pause = 0, 0, _FIRST_PAUSE
    while True:
        chosen = login(source.current)
        try:
            connection: Connection = psycopg2.connect(connection_factory=Connection, **chosen.parameters)
            connection.login = chosen
            if primary:
                _demand_primary(connection)
            return connection
        except psycopg2.OperationalError as error:
            # Without the frames that have the password as a local variable.
            failure = error.with_traceback(None)
        failures += 1
        refusals += login_refused(failure, chosen.user)
        if refusals >= _MAX_REFUSALS or time.monotonic() >= deadline:
            raise failure
        if failures == 1:
            told = str(failure).strip()
            log.warning("connect to PostgreSQL: reading the credentials again (%s): %s", source.origin, told)
        # Read in any case: what a refusal says may not be recognised.
        source.refresh(max(0.0, min(3.0, deadline - time.monotonic())))
        if login(source.current) == chosen:
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(2 * pause, _LAST_PAUSE)


def _demand_primary(connection: Connection) -> None:
    """Raise psycopg2.OperationalError if the server is a standby.

    It asks by a query: libpq believes what PgBouncer says of the server, which is of before a failover.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        standby = cursor.fetchone()[0]
    connection.rollback()
    if standby:
        give_up(connection)
        raise psycopg2.OperationalError("the server is a standby")


def login_refused(error: psycopg2.Error, user: str) -> bool:
    """Whether a failed connect is PostgreSQL refusing the login.

    psycopg2 has no SQLSTATE for it, and the text is in the language of the server. But in all
    languages it names the user. Little else that fails a connect does: a limit of connections per
    role, a host or database of the same name. PgBouncer does not name the user, but speaks English.
    A proxy that does neither is not recognised. connect() does the same in either case, and only
    gives up a little earlier when logins are refused.
    """
    text = str(error)
    named = re.search(rf"(?<![\w.-]){re.escape(user)}(?![\w.-])", text)
    return bool(named) or "authentication failed" in text or "no such user" in text


def alive(connection: Connection) -> bool:
    """Whether the server has not ended the session, as far as can be known without asking it.

    A session that was ended has something to read: why, or that this is the end. That takes one
    poll() and no request; only if there is something, which may also be a notice, is the server
    asked. A server that went away without a word is not noticed here, but by TCP (tcp_user_timeout,
    keepalives).
    """
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except psycopg2.Error:
        return not connection.closed  # the transaction had failed before


def ready(connection: Connection) -> bool:
    """Whether an idle connection may be handed out: it is alive, and in no transaction."""
    try:
        if alive(connection):
            connection.rollback()  # no request, unless alive has begun one
            return True
    except psycopg2.Error:
        pass
    return False


def lost(connection: Connection, error: psycopg2.Error) -> bool:
    """Whether a transaction failed because its connection ended, or leads to a server that has become a standby."""
    return bool(connection.closed) or read_only(error)


def read_only(error: psycopg2.Error) -> bool:
    """Whether the server changed nothing because it is a standby, or is set to be read-only."""
    return bool(error.pgcode == _READ_ONLY)


def once_more(before: psycopg2.Error | None, now: psycopg2.Error) -> bool:
    """Whether to repeat work that lost its connection: once, and once again if a standby was all that there was."""
    return before is None or (read_only(now) and not read_only(before))


def plain(result: T) -> T:
    """What work returned; that of an `async def` has done nothing yet, and raises TypeError."""
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            "work is an `async def` function, of which nothing was run: make it by `def`, and call with_retry in a "
            "thread, such as by asyncio.to_thread"
        )
    return result


def give_up(connection: Any) -> None:
    """Close a connection that may be closed or broken."""
    try:
        connection.close()
    except psycopg2.Error:
        pass

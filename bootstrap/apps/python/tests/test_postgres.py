"""The pool and SQLAlchemy on a real PostgreSQL, which SMVM_TEST_POSTGRES names (a superuser's DSN).

The project's acceptance tests set it; without it these are skipped.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from conftest import Settable, eventually
from psycopg2 import extensions

import smvm.connect
from smvm import Source, alchemy
from smvm.connect import Connection, login_refused
from smvm.pool import CommitUnknown, Pool

DSN = os.environ.get("SMVM_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(not DSN, reason="SMVM_TEST_POSTGRES is not set")

# A transaction that marks a row, and whose session ends while it is committed.
ENDS_IN_COMMIT = """CREATE FUNCTION {p}.ends() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON {p}.rows DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.n < 0) EXECUTE FUNCTION {p}.ends()"""


class Ground:
    """Two users, a table that is theirs, and a superuser who looks on."""

    def __init__(self) -> None:
        self.prefix = f"python_{secrets.token_hex(4)}"
        self.admin = psycopg2.connect(DSN)
        self.admin.autocommit = True
        self.passwords = {user: secrets.token_hex(16) for user in (f"{self.prefix}_a", f"{self.prefix}_b")}
        self.a, self.b = self.passwords
        self.sql("CREATE SCHEMA {p}; CREATE TABLE {p}.rows (n int)")
        for user in self.passwords:
            self.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{self.passwords[user]}'; GRANT USAGE ON SCHEMA {{p}} TO {user}")
            self.sql(f"GRANT SELECT, INSERT ON {{p}}.rows TO {user}")
        self.sql(ENDS_IN_COMMIT)

    def sql(self, text: str) -> Any:
        with self.admin.cursor() as cursor:
            cursor.execute(text.replace("{p}", self.prefix))
            return cursor.fetchone()[0] if cursor.description else None

    def fields(self, user: str, password: str = "") -> dict[str, str]:
        place = extensions.parse_dsn(DSN)
        root = os.environ.get("SMVM_TEST_CA", "")
        return {
            "db_host": place["host"], "db_port": place["port"], "db_database": place["dbname"],
            "db_username": user, "db_password": password or self.passwords[user],
            "db_sslmode": "verify-full" if root else "disable", "db_ssl_root_certificate": open(root).read() if root else "",
        }  # fmt: skip

    def sessions(self, user: str) -> int:
        return int(self.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'"))

    def end_sessions(self) -> None:
        """End all sessions of both users, and wait until they are gone."""
        mine = "FROM pg_stat_activity WHERE usename LIKE '{p}\\_%'"
        self.sql(f"SELECT count(pg_terminate_backend(pid)) {mine}")
        eventually("the sessions to end", lambda: self.sql(f"SELECT count(*) {mine}") == 0)

    def rows(self) -> int:
        return int(self.sql("SELECT count(*) FROM {p}.rows"))

    def insert(self, held: Connection, n: int = 1) -> str:
        with held.cursor() as cursor:
            cursor.execute(f"INSERT INTO {self.prefix}.rows VALUES (%s) RETURNING session_user", (n,))
            return str(cursor.fetchone()[0])

    def close(self) -> None:
        self.end_sessions()
        self.sql("DROP SCHEMA {p} CASCADE")
        self.sql(f"DROP ROLE {self.a}, {self.b}")
        self.admin.close()


@pytest.fixture
def ground() -> Iterator[Ground]:
    made = Ground()
    yield made
    made.close()


@pytest.fixture
def reader(ground: Ground) -> Settable:
    return Settable(**ground.fields(ground.a))


@pytest.fixture
def source(opened: Callable[..., Source], reader: Settable) -> Source:
    return opened(reader)


@pytest.fixture
def pool(source: Source) -> Iterator[Pool]:
    made = Pool(source, application_name="tests")
    yield made
    made.close()


def test_errors_that_are_caught(ground: Ground, pool: Pool) -> None:
    """PostgreSQL answers COMMIT, and commits nothing."""

    def work(held: Connection) -> None:
        ground.insert(held)
        try:
            held.cursor().execute("SELECT 1/0")
        except psycopg2.Error:
            pass

    for attempt in (lambda: pool.with_retry(work), lambda: pool.with_retry(work, idempotent=True)):
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction, match="nothing was committed"):
            attempt()
    with pytest.raises(psycopg2.errors.InFailedSqlTransaction), pool.connection() as held:
        work(held)
    assert ground.rows() == 0
    with pool.connection() as held:
        ground.insert(held)
    assert ground.rows() == 1


def test_ended_sessions(ground: Ground, pool: Pool) -> None:
    """One that is idle is not handed out; one in work has the work repeated, once."""
    with pool.connection() as held:
        ground.insert(held)
    ground.end_sessions()
    with pool.connection() as held:
        ground.insert(held)
    assert ground.rows() == 2
    runs = 0

    def work(held: Connection) -> None:
        nonlocal runs
        runs += 1
        ground.insert(held)
        if runs == 1:
            ground.end_sessions()
            ground.insert(held)

    pool.with_retry(work)
    assert runs == 2 and ground.rows() == 3
    runs = 0

    def then_ends(held: Connection) -> None:
        nonlocal runs
        runs += 1
        ground.insert(held)
        if runs == 1:
            ground.end_sessions()

    pool.with_retry(then_ends)
    assert runs == 2 and ground.rows() == 4


def test_commit_without_an_answer(ground: Ground, pool: Pool) -> None:
    runs = 0

    def work(held: Connection) -> None:
        nonlocal runs
        runs += 1
        ground.insert(held, -1)

    with pytest.raises(CommitUnknown):
        pool.with_retry(work)
    assert runs == 1 and ground.rows() == 0
    with pytest.raises(CommitUnknown), pool.connection() as held:
        ground.insert(held, -1)

    def commits_itself(held: Connection) -> None:
        nonlocal runs
        runs += 1
        with held:
            ground.insert(held)
        ground.end_sessions()
        ground.insert(held)

    def by_autocommit(held: Connection) -> None:
        nonlocal runs
        runs += 1
        held.autocommit = True
        ground.insert(held)
        ground.end_sessions()
        ground.insert(held)

    def by_autocommit_for_a_while(held: Connection) -> None:
        nonlocal runs
        runs += 1
        held.autocommit = True
        ground.insert(held)
        held.autocommit = False
        ground.end_sessions()
        ground.insert(held)

    for count, each in enumerate((commits_itself, by_autocommit, by_autocommit_for_a_while), 1):
        runs = 0
        with pytest.raises(CommitUnknown):
            pool.with_retry(each)
        assert runs == 1 and ground.rows() == count


def test_what_waits_to_be_read_ends_nothing(ground: Ground, pool: Pool) -> None:
    with pool.connection() as held:
        pid = held.info.backend_pid
        with held.cursor() as cursor:
            cursor.execute("LISTEN x")
    ground.sql("NOTIFY x")
    eventually("the notice to come", lambda: not held.notifies)
    with pool.connection() as held:
        assert held.info.backend_pid == pid and held.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE


def test_old_logins_drain(ground: Ground, pool: Pool, reader: Settable, source: Source) -> None:
    with pool.connection() as first:
        assert ground.insert(first) == ground.a
        with pool.connection() as second:
            ground.insert(second)
        reader.set(**ground.fields(ground.b))
        assert source.refresh()
        eventually("the idle one to end", lambda: ground.sessions(ground.a) == 1)
        ground.insert(first)
        with pool.connection() as third:
            assert ground.insert(third) == ground.b
    eventually("the other to end", lambda: ground.sessions(ground.a) == 0)
    assert ground.rows() == 4


def test_redacted(ground: Ground, pool: Pool) -> None:
    with pool.connection() as held:
        shown = repr(held) + str(held.info.dsn_parameters) + repr(held.login) + held.dsn
    assert ground.passwords[ground.a] not in shown


def test_refused_login(ground: Ground, pool: Pool, reader: Settable) -> None:
    """The password changes in place, as with single_user: no caller notices."""
    with pool.connection():
        pass
    ground.sql(f"ALTER ROLE {ground.a} PASSWORD 'another-password'")
    ground.end_sessions()
    reader.set(**ground.fields(ground.a, "another-password"))
    assert pool.with_retry(ground.insert) == ground.a
    for sql in (f"ALTER ROLE {ground.a} NOLOGIN", f"ALTER ROLE {ground.a} LOGIN PASSWORD 'yet-another'"):
        ground.sql(sql)
        ground.end_sessions()
        with pytest.raises(psycopg2.OperationalError) as refusal:
            Pool(pool._source, timeout=0.1).with_retry(ground.insert)
        assert login_refused(refusal.value, ground.a)


def test_fork(ground: Ground, pool: Pool) -> None:
    """A child has connections of its own, and ends none of the parent's."""
    with pool.connection() as held:
        with pool.connection() as idle:
            pids = {held.info.backend_pid, idle.info.backend_pid}
        del idle
        child = os.fork()
        if child == 0:
            try:
                del held
                with pool.connection() as mine:
                    ground.insert(mine)
                    os._exit(0 if mine.info.backend_pid not in pids else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pool.connection() as idle:
            assert {held.info.backend_pid, idle.info.backend_pid} == pids


@pytest.fixture
def engine(source: Source) -> Iterator[Any]:
    made = sqlalchemy.create_engine("postgresql+psycopg2://")
    alchemy.follow(made, source, application_name="tests")
    yield made
    made.dispose()


def test_sqlalchemy(ground: Ground, engine: Any, reader: Settable, source: Source) -> None:
    insert = sqlalchemy.text(f"INSERT INTO {ground.prefix}.rows VALUES (:n) RETURNING session_user")

    def user(n: int = 1) -> Any:
        return alchemy.with_retry(engine, lambda connection: connection.execute(insert, {"n": n}).scalar())

    assert user() == ground.a
    ground.end_sessions()
    with engine.begin() as connection:  # without a retry: the pool hands out no session that ended
        connection.execute(insert, {"n": 1})
        reader.set(**ground.fields(ground.b))
        assert source.refresh()
        assert user() == ground.b
        connection.execute(insert, {"n": 1})
    eventually("the old login to drain", lambda: ground.sessions(ground.a) == 0)
    assert ground.rows() == 4
    runs = 0

    def work(connection: Any) -> Any:
        nonlocal runs
        runs += 1
        connection.execute(insert, {"n": 1})
        if runs == 1:
            ground.end_sessions()

    alchemy.with_retry(engine, work)
    assert runs == 2 and ground.rows() == 5
    with pytest.raises(CommitUnknown):
        user(-1)
    assert ground.rows() == 5


def test_sqlalchemy_waits_for_a_primary(ground: Ground, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that writes nothing stands for a standby; what waits for a primary stands for its promotion."""
    ground.sql(f"ALTER ROLE {ground.a} SET default_transaction_read_only = on")
    promoted: list[Any] = []

    def promote(connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
        connection.commit()
        promoted.append(connection)

    monkeypatch.setattr(smvm.connect, "_demand_primary", promote)
    insert = sqlalchemy.text(f"INSERT INTO {ground.prefix}.rows VALUES (1)")
    alchemy.with_retry(engine, lambda connection: connection.execute(insert))
    assert len(promoted) == 1 and ground.rows() == 1
    ground.end_sessions()
    monkeypatch.setattr(smvm.connect, "_demand_primary", promoted.append)
    with pytest.raises(sqlalchemy.exc.InternalError):
        alchemy.with_retry(engine, lambda connection: connection.execute(insert))
    assert len(promoted) == 2 and ground.rows() == 1

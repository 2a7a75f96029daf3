"""The pool with connections that are made up: what it hands out, closes and repeats."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from conftest import Settable, eventually

import smvm.connect
import smvm.pool
from smvm import Source
from smvm.connect import CommitUnknown, login_refused
from smvm.place import Login
from smvm.pool import Pool, PoolTimeout

Open = Callable[..., Source]
PLACE = {"db_host": "db", "db_port": "5432", "db_database": "orders", "db_sslmode": "disable"}


def values(user: str, password: str = "hunter2") -> dict[str, str]:
    return PLACE | {"db_username": user, "db_password": password}


class Fake:
    """A connection to a server that can end it."""

    def __init__(self, login: Login, primary: bool = True) -> None:
        self.primary = primary
        self.login, self.closed, self.autocommit, self.commit_sent = login, 0, False, False
        self.mine, self.servers = socket.socketpair()
        self.commits, self.rollbacks = 0, 0

    def end(self) -> None:
        """The server ends the session: a word, and no more."""
        self.servers.send(b"FATAL")
        self.servers.close()

    def fileno(self) -> int:
        return self.mine.fileno()

    def cursor(self) -> Any:
        self.closed = 2
        raise psycopg2.OperationalError("terminating connection due to administrator command")

    def commit(self) -> None:
        self.commit_sent = True
        if self.servers.fileno() < 0:
            self.cursor()
        self.commits += 1

    def rollback(self) -> None:
        self.rollbacks += 1

    def close(self) -> None:
        self.closed = 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fake]]:
    connections: list[Fake] = []

    def connect(source: Source, login: Callable[[Any], Login], deadline: float, *, primary: bool) -> Fake:
        connections.append(Fake(login(source.current), primary))
        return connections[-1]

    monkeypatch.setattr(smvm.pool, "connect", connect)
    yield connections
    for each in connections:
        each.mine.close()
        each.servers.close()


def test_hands_out_again(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    for _ in range(3):
        with pool.connection() as held:
            held.autocommit = True
    assert len(made) == 1 and made[0].commits == 3 and not made[0].autocommit
    with pytest.raises(KeyError), pool.connection():
        raise KeyError
    assert made[0].commits == 3 and not made[0].closed


def test_ended_sessions_are_not_handed_out(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    with pool.connection():
        pass
    made[0].end()
    with pool.connection() as held:
        assert held is not made[0]
    assert made[0].closed and len(made) == 2


def test_old_logins_drain(opened: Open, made: list[Fake]) -> None:
    """Those in use until they come back, idle ones at once; what is not about the database changes nothing."""
    reader = Settable(**values("orders_a"))
    source = opened(reader)
    pool = Pool(source)
    with pool.connection(), pool.connection():
        pass
    assert [each.closed for each in made] == [0, 0]
    reader.set(**values("orders_a"), api_key="new")
    assert source.refresh()
    with pool.connection() as held:
        assert held in made
        reader.set(**values("orders_b"))
        assert source.refresh()
        assert held.closed == 0
        with pool.connection() as other:
            assert other is made[2] and other.login.user == "orders_b"
    eventually("the end of the old ones", lambda: [each.closed for each in made] == [1, 1, 0])
    reader.set(**values("orders_b", "another password"))
    assert source.refresh()
    eventually("the end of the last one", lambda: bool(made[2].closed))


def test_credentials_of_no_use(opened: Open, made: list[Fake]) -> None:
    """Those that say nothing of the database, or nothing safe, break no connection that there is."""
    reader = Settable(**values("orders_a"))
    source = opened(reader)
    pool = Pool(source)
    reader.set(api_key="x")
    with pool.connection():
        assert source.refresh()
    with pool.connection():
        pass
    assert len(made) == 1 and not made[0].closed


def test_bounds(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))), maximum=2, timeout=0.05)
    with pool.connection(), pool.connection(), pytest.raises(PoolTimeout), pool.connection():
        pass
    with pool.connection():
        pass
    assert len(made) == 2


def test_repeats_once(opened: Open, made: list[Fake]) -> None:
    """A session that ends before COMMIT is sent: in work, or between work and COMMIT."""
    pool = Pool(opened(Settable(**values("orders_a"))))

    def in_work(held: Any) -> str:
        if held is made[0]:
            held.end()
            held.cursor()
        return "done"

    def after_work(held: Any) -> str:
        if held is made[1]:
            held.end()
        return "done"

    assert pool.with_retry(in_work) == "done"
    assert pool.with_retry(after_work) == "done"
    assert [each.commits for each in made] == [0, 1, 1] and not made[1].commit_sent

    def always(held: Any) -> None:
        held.end()
        held.cursor()

    before = len(made)
    with pytest.raises(psycopg2.OperationalError):
        pool.with_retry(always)
    assert len(made) == before + 1  # the one that was idle, and one more

    with pool.connection(), pool.connection():
        pass
    made[-1].end()
    assert pool.with_retry(lambda held: held.cursor() if held in made[: before + 3] else "new") == "new"
    assert all(each.closed for each in made[: before + 3])  # those that may be ending too


class ReadOnly(psycopg2.Error):
    pgcode = "25006"


def test_waits_for_a_primary(opened: Open, made: list[Fake]) -> None:
    """Where the server is a standby: at once, or after a session that ended."""
    pool = Pool(opened(Settable(**values("orders_a"))))

    def write(held: Any) -> str:
        if not held.primary:
            raise ReadOnly
        return "done"

    def ends(held: Any) -> str:
        if held is made[1]:
            held.end()
            held.cursor()
        return write(held)

    assert pool.with_retry(write) == "done"
    assert [each.primary for each in made] == [False, True]
    assert pool.with_retry(ends) == "done"
    assert [each.primary for each in made] == [False, True, False, True]
    assert [each.commits for each in made] == [0, 1, 0, 1]

    def never(held: Any) -> None:
        raise ReadOnly

    with pytest.raises(ReadOnly):
        pool.with_retry(never)
    assert len(made) == 5


def test_repeats_nothing_that_may_be_committed(opened: Open, made: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    runs = 0

    def commits_itself(held: Any) -> None:
        nonlocal runs
        runs += 1
        held.commit()
        held.end()
        held.cursor()

    def by_autocommit(held: Any) -> None:
        nonlocal runs
        runs += 1
        held.autocommit = True
        held.end()
        held.cursor()

    for work in (commits_itself, by_autocommit):
        runs = 0
        with pytest.raises(CommitUnknown):
            pool.with_retry(work)
        assert runs == 1
        with pytest.raises(CommitUnknown):
            pool.with_retry(work, idempotent=True)
        assert runs == 3

    monkeypatch.setattr(Fake, "commit", lambda held: (setattr(held, "commit_sent", True), held.end(), held.cursor()))
    runs = 0

    def harmless(_: Any) -> None:
        nonlocal runs
        runs += 1

    with pytest.raises(CommitUnknown):
        pool.with_retry(harmless)
    assert runs == 1
    with pytest.raises(CommitUnknown), pool.connection():
        pass


def test_other_errors_are_not_repeated(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    runs = 0

    def wrong(_: Any) -> None:
        nonlocal runs
        runs += 1
        raise psycopg2.ProgrammingError("syntax error")

    with pytest.raises(psycopg2.ProgrammingError):
        pool.with_retry(wrong)
    assert runs == 1 and made[0].rollbacks == 1 and not made[0].closed


def test_closed(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    with pool.connection():
        with pool.connection():
            pass
        pool.close()
        assert made[1].closed and not made[0].closed
    assert made[0].closed
    with pytest.raises(psycopg2.InterfaceError), pool.connection():
        pass


def test_fork_in_a_block(opened: Open, made: list[Fake]) -> None:
    """A child that leaves the block closes nothing of the parent's, and keeps none of it."""
    pool = Pool(opened(Settable(**values("orders_a"))))
    with pool.connection():
        pool._fresh()  # as in the child
    assert not made[0].closed and made[0].rollbacks == 0 and pool._idle == []


def test_many_threads(opened: Open, made: list[Fake]) -> None:
    reader = Settable(**values("orders_a"))
    source = opened(reader)
    pool = Pool(source, maximum=4)
    errors: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(50):
                with pool.connection() as held:
                    assert not held.closed
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for n in range(10):
        reader.set(**values(f"orders_{n}"))
        source.refresh()
    for thread in threads:
        thread.join()
    assert errors == []
    eventually("the end of the old ones", lambda: {each.login.user for each in made if not each.closed} <= {"orders_9"})


REFUSED = [
    'FATAL:  password authentication failed for user "orders_a"',
    'FATAL:  Passwort-Authentifizierung für Benutzer »orders_a« fehlgeschlagen',
    "FATAL:  authentification par mot de passe échouée pour l'utilisateur « orders_a »",
    'ВАЖНО:  пользователь "orders_a" не прошёл проверку подлинности (по паролю)',
    '致命错误:  用户 "orders_a" Password 认证失败',
    'FATAL:  role "orders_a" is not permitted to log in',
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "orders_a", database "orders", no encryption',
    "ERROR:  SASL authentication failed",
]
OTHERS = [
    "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
    "FATAL:  the database system is starting up",
    "FATAL:  sorry, too many clients already",
    'FATAL:  database "orders" does not exist',
    'SSL error: certificate verify failed, or of another user: "orders_ab" "x-orders_a"',
]


def test_refused_logins_in_all_languages() -> None:
    for expected, texts in ((True, REFUSED), (False, OTHERS)):
        for text in texts:
            error = psycopg2.OperationalError(f'connection to server at "10.0.0.7", port 5432 failed: {text}\n')
            assert login_refused(error, "orders_a") is expected, text


class Server:
    """Stands for psycopg2.connect: lets in whoever has the password, and can be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.password, self.away, self.attempts = "hunter2", "", 0
        monkeypatch.setattr(psycopg2, "connect", self.connect)

    def connect(self, **parameters: Any) -> Any:
        self.attempts += 1
        if self.away:
            raise psycopg2.OperationalError(self.away)
        if parameters["password"] != self.password:
            raise psycopg2.OperationalError(f'FATAL:  password authentication failed for user "{parameters["user"]}"')
        return Fake(Login("", {}))


def test_connect_reads_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that is refused, and any other failure, has the credentials read again, and is repeated at once."""
    for refusal in ("", "a failure in no language"):
        reader, server = Settable(**values("orders_a")), Server(monkeypatch)
        source = opened(reader)
        server.password, server.away = "new", refusal
        reader.set(**values("orders_a", "new"))
        read = reader.read

        def back(have: Any) -> Any:
            server.away = ""
            return read(have)

        reader.read = back  # type: ignore[method-assign]
        held = smvm.connect.connect(source, lambda c: smvm.pool.login(c, "db"), time.monotonic() + 60)
        assert server.attempts == 2 and held.login.parameters["password"] == "new"


class Standby(Fake):
    """A connection to a server that has to be promoted yet, or has been."""

    def __init__(self, standby: bool) -> None:
        super().__init__(Login("", {}))
        self.standby = standby

    def cursor(self) -> Any:
        return contextlib.nullcontext(self)

    def execute(self, sql: str) -> None:
        assert sql == "SELECT pg_is_in_recovery()"

    def fetchone(self) -> tuple[bool]:
        return (self.standby,)


def test_connect_to_a_primary(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby will do, unless a primary is demanded: then it is tried until there is one, or the time is up."""
    monkeypatch.setattr(smvm.connect, "_FIRST_PAUSE", 0.001)
    source, servers = opened(Settable(**values("orders_a"))), [Standby(True), Standby(True), Standby(True), Standby(False)]
    monkeypatch.setattr(psycopg2, "connect", lambda **_: servers[0] if len(servers) == 1 else servers.pop(0))
    first, second, third, last = servers

    def attempt(primary: bool, within: float) -> Any:
        return smvm.connect.connect(source, lambda c: smvm.pool.login(c, "db"), time.monotonic() + within, primary=primary)

    assert attempt(False, 60) is first and not first.closed
    assert attempt(True, 60) is last and last.rollbacks == 1
    assert second.closed and third.closed
    last.standby = True
    with pytest.raises(psycopg2.OperationalError, match="standby"):
        attempt(True, 0.1)


def test_connect_is_bounded(opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(smvm.connect, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(smvm.connect, "_LAST_PAUSE", 0.001)
    server = Server(monkeypatch)
    source = opened(Settable(**values("orders_a")), min_interval=0.001)

    def attempt(within: float) -> BaseException:
        with pytest.raises(psycopg2.OperationalError) as failure:
            smvm.connect.connect(source, lambda c: smvm.pool.login(c, "db"), time.monotonic() + within)
        return failure.value

    server.password = "another"
    attempt(60)
    assert server.attempts == 10
    server.attempts, server.away = 0, "Connection refused"
    error = attempt(0.2)
    assert server.attempts > 1
    # No frame that is left has the password as a local variable.
    trace, frames = error.__traceback__, []
    while trace:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    shown = [repr(f.f_locals) for f in frames if "smvm" in f.f_code.co_filename and "tests" not in f.f_code.co_filename]
    assert shown and "hunter2" not in "".join(shown) and "hunter2" not in caplog.text


@pytest.mark.parametrize(("options", "told"), [
    ({"minconn": 1}, 'invalid connection option "minconn": neither an argument'), ({"sslmode": "hunter2"}, "the credentials decide sslmode"),
    ({"maximum": 0}, "maximum has to be 1 or more"),
])  # fmt: skip
def test_options_that_there_are_not(opened: Open, options: dict[str, Any], told: str) -> None:
    """They are refused when the pool is made, not at the first request."""
    with pytest.raises(ValueError, match=told) as failure:
        Pool(opened(Settable(**values("orders_a"))), **options)
    assert "hunter2" not in str(failure.value)


def test_what_is_no_source() -> None:
    with pytest.raises(TypeError, match="source has to be a Source.*, not str"):
        Pool("host=db password=hunter2")  # type: ignore[arg-type]


def test_asynchronous_work(opened: Open, made: list[Fake]) -> None:
    """Nothing is committed for a function that has not run."""

    async def work(_: Any) -> int:
        return 1

    pool = Pool(opened(Settable(**values("orders_a"))))
    for each in (work, lambda connection: work(connection)):
        with pytest.raises(TypeError, match="work is an `async def` function"):
            pool.with_retry(each)
    assert sum(each.commits for each in made) == 0


def test_a_query_in_an_event_loop_is_told_of(opened: Open, made: list[Fake], caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))

    async def route() -> None:
        with pool.connection():
            pass

    asyncio.run(route())
    assert caplog.text.count("waits in an `async def` function") == 1


def test_work_that_closes_its_connection(opened: Open, made: list[Fake]) -> None:
    pool = Pool(opened(Settable(**values("orders_a"))))
    with pytest.raises(psycopg2.OperationalError, match="or the application closed the connection"):
        pool.with_retry(lambda connection: connection.close())

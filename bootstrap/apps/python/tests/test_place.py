"""Where a connection goes: no environment makes it less."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg2 import extensions

from smvm import Credentials
from smvm.place import Login, PlaceError, check_options, login

OLD = {
    "db_username": "orders_a", "db_password": "p", "db_host": "db.example.com", "db_port": "5433", "db_database": "orders",
    "db_connection_string": "postgresql://orders_a:p%40ss@db.example.com:5433/orders?sslmode=MODE",
}  # fmt: skip


def placed(mode: str = "verify-full", **changes: str) -> dict[str, str]:
    values = OLD | {"db_connection_string": OLD["db_connection_string"].replace("MODE", mode)} | changes
    return login(Credentials(1, values), "db").parameters


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require", "disable"])
@pytest.mark.parametrize("certificate", ["", "a certificate"])
def test_place(mode: str, certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGHOST", "PGHOSTADDR", "PGUSER", "PGOPTIONS", "PGREQUIREAUTH"):
        monkeypatch.setenv(name, "elsewhere")
    for found in (placed("disable", db_sslmode=mode, db_ssl_root_certificate=certificate), placed(mode, db_ssl_root_certificate=certificate)):
        assert found["sslmode"] == mode
        wanted = {
            "host": "db.example.com", "port": "5433", "dbname": "orders", "user": "orders_a", "password": "p",
            "hostaddr": "", "options": "", "gssencmode": "disable", "channel_binding": "prefer", "target_session_attrs": "any",
        }  # fmt: skip
        assert found | wanted == found
        if certificate:
            assert Path(found["sslrootcert"]).read_text() == certificate
        else:
            assert found["sslrootcert"] and ".postgresql" not in found["sslrootcert"]


def test_the_strictest_without_a_mode() -> None:
    assert placed(db_connection_string="")["sslmode"] == "verify-full"


@pytest.mark.parametrize("changes", [
    {"db_sslmode": "prefer"}, {"db_sslmode": "allow"}, {"db_sslmode": "postgresql://a:hunter2@b"}, {"db_username": ""}, {"db_password": ""},
    {"db_connection_string": "postgresql://a:hunter2@[b:hunter2/?sslmode=disable"}, {"db_connection_string": "", "db_host": ""},
    {"db_connection_string": "postgresql://orders_a:hunter2@db/orders?sslmode=prefer"}, {"db_connection_string": "postgresql://a:hunter2@b/?nonsense=1"},
])  # fmt: skip
def test_refused(changes: dict[str, str]) -> None:
    with pytest.raises(PlaceError) as failure:
        placed(**changes)
    assert "hunter2" not in str(failure.value)


def test_several_hosts() -> None:
    found = placed(db_connection_string="postgresql://a:p@a.example.com:5433,b.example.com:5434/orders?sslmode=verify-full"
                   "&target_session_attrs=read-write&application_name=orders&connect_timeout=3&hostaddr=10.0.0.1")  # fmt: skip
    wanted = {"host": "a.example.com,b.example.com", "port": "5433,5434", "target_session_attrs": "read-write", "hostaddr": "",
              "application_name": "orders", "connect_timeout": "3", "user": "orders_a", "password": "p"}  # fmt: skip
    assert found | wanted == found


def test_hostile_fields() -> None:
    """A field is a parameter, whatever it looks like."""
    for host in ("::1", "/run/postgresql", "a b'c"):
        found = placed(db_connection_string="", db_host=host, db_database="orders sslmode=disable host=elsewhere")
        assert extensions.parse_dsn(extensions.make_dsn(**found)) == found


def test_another_server() -> None:
    c = Credentials(1, OLD)
    for at in ("host=127.0.0.1 port=6432", "host=127.0.0.1 sslmode=prefer", "postgresql://127.0.0.1/?sslmode=allow"):
        with pytest.raises(PlaceError):
            login(c, "db", at)
    found = login(c, "db", "host=127.0.0.1 port=6432 dbname=x user=y password=z sslmode=disable").parameters
    assert (found["host"], found["user"], found["password"], found["sslmode"]) == ("127.0.0.1", "orders_a", "p", "disable")


def test_options_of_the_application() -> None:
    assert login(Credentials(1, OLD | {"db_sslmode": "disable"}), "db", "", {"application_name": "x"}).parameters["application_name"] == "x"
    for wrong in ("sslmode", "host", "hostaddr", "password", "dbname", "sslrootcert"):
        with pytest.raises(ValueError):
            check_options({wrong: "x"})


def test_redacted() -> None:
    assert repr(Login("a", {"password": "hunter2"})) == "[redacted]"

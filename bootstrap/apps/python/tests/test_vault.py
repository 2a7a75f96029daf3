"""What Vault, or whoever is in its place, may answer; and who gets to see a token."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeVault

from smvm import AppRole, Credentials, ReadError, StatusError, Token, TokenFile, Vault

HAVE = Credentials(3, {"db_username": "orders_a"})
ODD = [
    "", "null", "[]", "{}", '{"data":null}', '{"data":[]}', '{"data":"hunter2"}', "<html>hunter2</html>",
    '{"data":{"ttl":10}}', '{"data":{"version":4}}', '{"data":{"version":"4","ttl":10}}', '{"data":{"version":4,"ttl":"10"}}',
    '{"data":{"version":4.5,"ttl":10}}', '{"data":{"version":4e3,"ttl":10}}', '{"data":{"version":99999999999999999999,"ttl":10}}',
    '{"data":{"version":0,"ttl":10,"db_username":"b"}}', '{"data":{"version":true,"ttl":10,"db_username":"b"}}',
    '{"data":{"version":4,"ttl":-1,"db_username":"b"}}', '{"data":{"version":4,"ttl":10}}', '{"data":{"version":4,"ttl":NaN,"db_username":"b"}}',
    '{"data":{"version":4,"ttl":10,"changed":false}}', '{"data":{"version":4,"ttl":10,"last_vault_rotation":"2026-01-01T00:00:00Z"}}',
    "[" * 100_000, '{"data":{"version":4,"ttl":10,"db_username":"b","padding":"' + "x" * (1 << 20) + '"}}',
]  # fmt: skip


def reads(fake: FakeVault, text: str, have: Credentials | None = None) -> Credentials:
    fake.respond = lambda _: (200, {}, text)
    return Vault(fake.url, "smvm/creds/orders", Token("hvs.hunter2")).read(have)


def test_odd_answers(vault: FakeVault) -> None:
    """What creds never answers counts as no answer, so that the last values stay."""
    for text in ODD:
        for have in (None, HAVE):
            with pytest.raises(ReadError) as failure:
                reads(vault, text, have)
            assert "hunter2" not in str(failure.value), text[:80]


def test_unchanged(vault: FakeVault) -> None:
    text = '{"data":{"version":3,"ttl":10,"changed":false}}'
    with pytest.raises(ReadError):
        reads(vault, text)
    again = reads(vault, text, HAVE)
    assert again.same_values(HAVE) and again.ttl == 11
    assert vault.requests[-1].path.endswith("?if_version=3")
    # While a previous value is held, all is asked for: its end makes no new version.
    reads(vault, '{"data":{"version":3,"ttl":10,"api_key":"b"}}', Credentials(3, {"api_previous_key": "a"}))
    assert "if_version" not in vault.requests[-1].path


def test_version_of_another_rotation(vault: FakeVault) -> None:
    """Vault was restored from a snapshot and has rotated once more: a version comes again, with other values."""

    def respond(request: Any) -> tuple[int, dict[str, str], str]:
        values = '"changed":false' if "if_version" in request.path else '"api_key":"after"'
        return 200, {}, '{"data":{"version":3,"ttl":10,"last_vault_rotation":"2026-01-02T00:00:00Z",%s}}' % values

    vault.respond = respond
    have = Credentials(3, {"api_key": "before"}, last_rotation=datetime(2026, 1, 1, tzinfo=timezone.utc))
    for _ in range(2):
        have = Vault(vault.url, "smvm/creds/orders", Token("hvs.hunter2")).read(have)
        assert have.value("api", "key") == "after"


@pytest.mark.parametrize(("ttl", "pause"), [("0", 1), ("10", 11), ("1000000000", 86400), ("9223372036854775807", 86400)])
def test_ttl(vault: FakeVault, ttl: str, pause: float) -> None:
    assert reads(vault, '{"data":{"version":4,"ttl":' + ttl + ',"db_username":"b"}}').ttl == pause


def files(directory: Path) -> AppRole:
    for name in ("role_id", "secret_id"):
        (directory / name).write_text("hunter2\n")
    return AppRole(directory / "role_id", directory / "secret_id")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("part", ["creds", "login", "sign"])
def test_redirects(vault: FakeVault, other: FakeVault, tmp_path: Path, status: int, part: str) -> None:
    """The server that a redirect points at gets nothing."""
    auth = files(tmp_path) if part == "login" else Token("hvs.hunter2")
    vault.respond = lambda request: (status, {"Location": f"{other.url}/v1/x?secret=query"}, "")
    asked = Vault(vault.url, "smvm/creds/orders", auth)
    with pytest.raises(ReadError, match="points at http://127.0.0.1:") as failure:
        asked.sign("jwt", {"sub": "alice"}) if part == "sign" else asked.read(None)
    assert "query" not in str(failure.value) and not isinstance(failure.value, StatusError)
    assert other.requests == [] and len(vault.requests) == 1


def test_proxies_see_no_token(vault: FakeVault, other: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is not used over http, and gets a tunnel over https."""
    other.respond = lambda _: (502, {}, "")
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "HTTP", "https"):
        with pytest.raises(ReadError):
            Vault(f"{scheme}://vault.invalid:8200", "smvm/creds/orders", Token("hvs.hunter2")).read(None)
    assert [request.command for request in other.requests] == ["CONNECT"]
    assert "hunter2" not in str(other.requests[0].headers)
    assert reads(vault, '{"data":{"version":4,"ttl":1,"db_username":"b"}}').version == 4


def test_login(vault: FakeVault, tmp_path: Path) -> None:
    """It logs in once, renews after two thirds, and logs in again when its token is refused."""
    said: list[str] = []
    refused: set[str] = set()

    def respond(request: Any) -> tuple[int, dict[str, str], str]:
        said.append(request.path.rpartition("/")[2])
        if "auth" in request.path:
            token = f"hvs.{len(said)}"
            return 200, {}, json.dumps({"auth": {"client_token": token, "lease_duration": 3600, "renewable": True}})
        if request.headers["X-Vault-Token"] in refused:
            return 403, {}, '{"errors":["permission denied"]}'
        return 200, {}, '{"data":{"version":4,"ttl":1,"db_username":"b"}}'

    vault.respond = respond
    auth = files(tmp_path)
    asked = Vault(vault.url, "smvm/creds/orders", auth)
    asked.read(None), asked.read(None)
    assert said == ["login", "orders", "orders"]
    assert json.loads(vault.requests[0].body) == {"role_id": "hunter2", "secret_id": "hunter2"}
    auth._renew = 0.0
    asked.read(None)
    assert said[3:] == ["renew-self", "orders"]
    refused.add("hvs.4")
    asked.read(None)
    assert said[5:] == ["orders", "login", "orders"]


@pytest.mark.parametrize("text", [
    "null", "{}", '{"auth":null}', '{"auth":{"client_token":"","mfa_requirement":{}}}', '{"auth":{"lease_duration":3600}}',
    '{"auth":{"client_token":"hvs.hunter2","lease_duration":-1}}', '{"auth":{"client_token":"hvs.hunter2","lease_duration":9223372036854775808}}',
    '{"auth":{"client_token":"hvs.hunter2\\n","lease_duration":1}}',
])  # fmt: skip
def test_odd_logins(vault: FakeVault, tmp_path: Path, text: str) -> None:
    vault.respond = lambda _: (200, {}, text)
    with pytest.raises(ReadError) as failure:
        Vault(vault.url, "smvm/creds/orders", files(tmp_path)).read(None)
    assert "hunter2" not in str(failure.value)


def test_errors_hold_no_secret(vault: FakeVault, tmp_path: Path) -> None:
    """What urllib would say of a header that it refuses quotes the token."""
    (tmp_path / "token").write_text("hvs.hunter2\nhvs.hunter2")
    with pytest.raises(ReadError) as failure:
        Vault(vault.url, "smvm/creds/orders", TokenFile(tmp_path / "token")).read(None)
    assert "hunter2" not in str(failure.value)
    with pytest.raises(ReadError, match="refused"):
        Vault("http://127.0.0.1:1", "smvm/creds/orders", Token("hvs.hunter2")).read(None)
    for address in ("vault:8200", "file:///etc/passwd", "https://user:hunter2@vault"):
        with pytest.raises(ValueError) as wrong:
            Vault(address, "smvm/creds/orders")
        assert "hunter2" not in str(wrong.value)


def refusing(fake: FakeVault, code: int, text: str) -> list[str]:
    """Have every login refused; the list gets an item for each."""
    logins: list[str] = []

    def respond(request: Any) -> tuple[int, dict[str, str], str]:
        logins.append(json.loads(request.body)["secret_id"])
        return code, {}, text

    fake.respond = respond
    return logins


@pytest.mark.parametrize(("code", "error", "pause", "told"), [
    (400, "invalid role or secret ID", 960, r"the secret_id in .*/secret_id is wrong or has ended, or the role_id in .*/role_id is"),
    (403, "permission denied", 60, "too many wrong logins have locked the role_id of .*/role_id out .*vault read sys/locked-users"),
])  # fmt: skip
def test_refused_logins_are_rare(
    vault: FakeVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: str, pause: float, told: str
) -> None:
    """Five of them lock a role_id out, for the instances with the right secret_id as well."""
    logins = refusing(vault, code, json.dumps({"errors": [error]}))
    asked = Vault(vault.url, "smvm/creds/orders", files(tmp_path))

    def read() -> None:
        with pytest.raises(ReadError, match=f"log in to Vault: Vault answers {code} to auth/approle/login: {error}; {told}") as failure:
            asked.read(None)
        assert "hunter2" not in str(failure.value) and "hunter3" not in str(failure.value)

    for _ in range(20):
        read()
    assert logins == ["hunter2"]
    (tmp_path / "secret_id").write_text("hunter3")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    read(), read()
    assert logins == ["hunter2", "hunter3"]
    for passed, number in ((pause - 5, 2), (pause + 5, 3)):
        monkeypatch.setattr(time, "monotonic", lambda: now + passed)
        read()
        assert len(logins) == number


def test_logins_that_were_not_refused_are_repeated(vault: FakeVault, tmp_path: Path) -> None:
    for code, text in ((503, '{"errors":["Vault is sealed"]}'), (400, "Client sent an HTTP request to an HTTPS server.")):
        logins = refusing(vault, code, text)
        asked = Vault(vault.url, "smvm/creds/orders", files(tmp_path))
        for _ in range(3):
            with pytest.raises(ReadError):
                asked.read(None)
        assert len(logins) == 3
    (tmp_path / "secret_id").write_text("\n")
    with pytest.raises(ReadError, match="secret_id is empty"):
        asked.read(None)
    assert len(logins) == 3


def test_sign(vault: FakeVault) -> None:
    vault.respond = lambda _: (200, {}, '{"data":{"token":"signed"}}')
    far = 1 << 40
    for path, where in {"smvm/creds/orders": "orders", "smvm/creds": "default"}.items():
        assert Vault(vault.url, path).sign("jwt", {"sub": "a", "iat": 1, "nbf": 1, "exp": far}) == "signed"
        body = json.loads(vault.requests[-1].body)
        assert vault.requests[-1].path == f"/v1/smvm/jwt/{where}/jwt/sign"
        assert body["claims"] == {"sub": "a"} and 0 < body["ttl"] < far
    with pytest.raises(ValueError):
        Vault(vault.url, "smvm/creds").sign("jwt", {"exp": 1})


def test_mistakes_are_told(vault: FakeVault, tmp_path: Path) -> None:
    """What is wrong is named, and a secret in the place of its file's path is not."""
    vault.respond = lambda _: (403, {}, '{"errors":["permission denied"]}')
    with pytest.raises(StatusError, match="403 to smvm/creds/orders: permission denied; the path may be wrong"):
        Vault(vault.url, "smvm/creds/orders", Token("hvs.x")).read(HAVE)
    with pytest.raises(StatusError, match="403 to smvm/creds/orders: permission denied; no token was sent: pass auth"):
        Vault(vault.url, "smvm/creds/orders").read(None)
    vault.respond = lambda _: (400, {}, "Client sent an HTTP request to an HTTPS server.")
    with pytest.raises(StatusError, match="400 to smvm/creds/orders: that is no answer of Vault's: .* with https where it speaks TLS"):
        Vault(vault.url, "smvm/creds/orders").read(None)
    with pytest.raises(ReadError, match="speaks no TLS: is it http"):
        Vault(vault.url.replace("http", "https"), "smvm/creds/orders").read(None)
    for wrong in ("/v1", "/ui/", "?x=hunter2", "#x"):
        with pytest.raises(ValueError, match="ends with its host and port, without a path such as /v1") as address:
            Vault(vault.url + wrong, "smvm/creds/orders")
        assert "hunter2" not in str(address.value)
    for no_token in ("hvs.hunter2", Token):
        with pytest.raises(TypeError, match="auth has to be an AppRole.*, not (str|the class Token itself)"):
            Vault(vault.url, "smvm/creds/orders", no_token)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="token has to be a str, not NoneType"):
        Token(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token is empty: is VAULT_TOKEN set"):
        Token("")
    (tmp_path / "ca.pem").write_text("none")
    for name, why in {"missing.pem": "No such file or directory", "ca.pem": "it has no certificate in PEM"}.items():
        with pytest.raises(ValueError, match=f"ca_file .*{name}: {why}"):
            Vault("https://vault:8200", "smvm/creds/orders", ca_file=str(tmp_path / name))
    with pytest.raises(ValueError, match="smvm/creds/<role>"):
        Vault(vault.url, "smvm/creds/orders/db")
    for auth in (AppRole("hunter2", "hunter2"), TokenFile("hvs.hunter2")):
        with pytest.raises(ReadError) as failure:
            auth.token(Vault(vault.url, "smvm/creds/orders"))
        assert "hunter2" not in str(failure.value)

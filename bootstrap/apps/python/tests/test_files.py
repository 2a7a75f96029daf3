from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import eventually

from smvm import AgentFiles, Environment, MountedSecret, ReadError, Source, keys, tokens
from smvm.files import parse_env, parse_yaml

ENV = """# Written by Vault Agent; changes are lost.
SMVM_VERSION=7
DB_USER=orders_a
# docker would keep these='
DB_HOST='a$b\\c d#'
DB_NAME="it's"
DB_PORT=
DATABASE_PASSWORD="a\\"b\\\\c\\$d\\`e=f"
"""
YAML = '# Written by Vault Agent; changes are lost.\njwt_secret: "\\u003csecret\\u003e"\napi_key: plain/key+=\n'


def write(path: Path, text: str) -> None:
    """Replace a file by a rename, as the Agent does."""
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DB_SSLROOTCERT", raising=False)
    write(tmp_path / ".env", ENV)
    write(tmp_path / "config" / "secrets.yaml", YAML)
    return tmp_path


def test_reads_what_the_agent_writes(directory: Path) -> None:
    read = AgentFiles(directory).read(None)
    assert read.version == 7
    wanted = {
        "db username": "orders_a", "db host": "a$b\\c d#", "db database": "it's", "db port": "", "db password": 'a"b\\c$d`e=f',
        "jwt secret": "<secret>", "jwt algorithm": "HS256", "jwt kid": "1", "api key": "plain/key+=", "api previous_key": "",
    }  # fmt: skip
    for name, value in wanted.items():
        assert read.get(*name.split()) == value, name


def test_hashes_of_keys(directory: Path, opened: Callable[..., Source]) -> None:
    """Of a secret with hash_only the Agent writes hashes."""
    key, before = (hashlib.sha256(text).hexdigest() for text in (b"key-2", b"key-1"))
    write(directory / "config" / "secrets.yaml", f'api_key_sha256: "{key}"\napi_previous_key_sha256: "{before}"\n')
    source = opened(AgentFiles(directory))
    assert keys.accepts(source, "key-2") and keys.accepts(source, "key-1") and not keys.accepts(source, "key-0")


def test_role_without_a_signing_key(directory: Path, opened: Callable[..., Source]) -> None:
    write(directory / "config" / "secrets.yaml", "api_key: a\n")
    with pytest.raises(ValueError, match="the credentials have no jwt that verifies"):
        tokens.decode(opened(AgentFiles(directory)), "a.b.c")


def test_env_as_a_shell_reads_it(directory: Path) -> None:
    shell = subprocess.run(["bash", "-c", 'set -a; . "$0"; env -0', directory / ".env"], env={"PATH": os.environ["PATH"]}, capture_output=True)
    known = dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if "=" in line)
    for name, value in parse_env(ENV).items():
        assert known[name] == value


@pytest.mark.parametrize("line", ["hunter2", "a: 'hunter2'", 'a: "hunter2', "a: [hunter2]", "a: {hunter2}", "a b: hunter2", "a: &x hunter2", "a: |"])
def test_odd_yaml(line: str) -> None:
    with pytest.raises(ReadError) as failure:
        parse_yaml(f"# comment\n{line}\n")
    assert "line 2" in str(failure.value) and "hunter2" not in str(failure.value)


def test_lines_end_with_a_line_feed_only(tmp_path: Path) -> None:
    """Python takes more characters for the end of a line than the shell does."""
    password = "a\x85b\u2028c\x1cd"
    assert parse_env(f"A='{password}'\nB=c\n") == {"A": password, "B": "c"}
    (tmp_path / "version").write_text("1")
    (tmp_path / "db_password").write_bytes(b"a\r\nb")
    assert MountedSecret(tmp_path).read(None).value("db", "password") == "a\r\nb"


def test_files_count_and_not_the_environment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PREVIOUS_KEY", "of the start")
    assert AgentFiles(directory).read(None).value("api", "previous_key") == ""


def test_follows_renames(directory: Path, opened: Callable[..., Source]) -> None:
    source = opened(AgentFiles(directory, interval=0.02))
    write(directory / ".env", ENV.replace("=7", "=8"))
    eventually("the new version", lambda: source.current.version == 8)
    write(directory / "config" / "secrets.yaml", YAML.replace("plain", "other"))
    eventually("the new key", lambda: source.current.value("api", "key") == "other/key+=")
    (directory / ".env").unlink()
    eventually("a failure", lambda: source.failing > 1)
    assert source.current.version == 8
    write(directory / ".env", ENV)
    eventually("the files again", lambda: source.failing == 0 and source.current.version == 7)


def test_agent_that_stopped(directory: Path, opened: Callable[..., Source], caplog: pytest.LogCaptureFixture) -> None:
    """An Agent that no longer reads is told of, and the last values stay; also those that it writes meanwhile are taken."""

    def told(ago: float, ttl: str = "10") -> None:
        write(directory / "read.env", f"# comment\nSMVM_READ_AT={time.time() - ago:.0f}\nSMVM_TTL={ttl}\n")

    caplog.set_level("INFO", "smvm")
    source = opened(AgentFiles(directory, interval=0.02))
    eventually("a warning", lambda: "so a Vault Agent that stops is not noticed" in caplog.text)
    assert source.failing == 0
    told(ago=300)
    eventually("a failure", lambda: source.failing > 1)
    assert source.current.version == 7 and "s late with its next read of creds" in caplog.text
    write(directory / ".env", ENV.replace("=7", "=8"))
    eventually("the new version", lambda: source.current.version == 8)
    told(ago=60)
    eventually("the Agent again", lambda: source.failing == 0)
    assert "it works again, after" in caplog.text
    told(ago=0, ttl="hunter2")
    eventually("a failure", lambda: source.failing > 0)
    assert "hunter2" not in caplog.text and caplog.text.count("is not noticed") == 1


def test_follows_symbolic_links(tmp_path: Path, opened: Callable[..., Source]) -> None:
    """As the kubelet turns ..data to a new directory, and removes the old one."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(version: int) -> None:
        data = mount / f"..{version}"
        data.mkdir()
        for name, text in {"version": str(version), "db_username": "orders_a", "db_password": f"password-{version}"}.items():
            (data / name).write_text(text)
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(f"..data/{name}")
        (mount / "..new").symlink_to(data.name)
        (mount / "..new").rename(mount / "..data")

    publish(1)
    source = opened(MountedSecret(mount, interval=0.02))
    assert source.current.version == 1 and source.current.value("db", "password") == "password-1"
    publish(2)
    for left in (mount / "..1").iterdir():
        left.unlink()
    eventually("the new version", lambda: source.current.version == 2)
    assert source.current.value("db", "password") == "password-2"


def test_mounted_without_links(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("3\n")
    (tmp_path / "api_key").write_text("a")
    read = MountedSecret(tmp_path).read(None)
    assert read.version == 3 and read.value("api", "key") == "a"
    for wrong in ("hunter2", "", "-1"):
        (tmp_path / "version").write_text(wrong)
        with pytest.raises(ReadError) as failure:
            MountedSecret(tmp_path).read(None)
        assert "hunter2" not in str(failure.value)
    with pytest.raises(ReadError):
        MountedSecret(tmp_path / "missing").read(None)


def test_files_of_something_else(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made of an environment or of files that no Agent wrote."""
    monkeypatch.delenv("SMVM_VERSION", raising=False)
    write(directory / "other" / ".env", "DATABASE_URL=postgresql://hunter2@db\n")
    write(directory / "other" / "config" / "secrets.yaml", YAML)
    wanted = {
        Environment(): "the environment has no SMVM_VERSION: the Agent that sets it",
        AgentFiles(directory / "other"): r"other/\.env has no SMVM_VERSION: it is not what a Vault Agent renders",
        MountedSecret(directory): "has no file version: .* For the files of a Vault Agent, use AgentFiles",
    }
    for reader, told in wanted.items():
        with pytest.raises(ReadError, match=told):
            reader.read(None)


def test_tells_since_when_files_are_unchanged(directory: Path, opened: Callable[..., Source]) -> None:
    """A dead Agent leaves files that can be read; who logs a refused login gets to know how old they are."""
    files = [directory / ".env", directory / "config" / "secrets.yaml"]
    for file in files:
        os.utime(file, (0, 0))
    source = opened(AgentFiles(directory))
    assert f"from the files in {directory}, unchanged since 1970-01-01 00:00:00+00:00; does the Vault Agent" in source.origin
    for file in files:  # one that is newer is enough
        os.utime(file)
        assert "1970" not in source.origin
        os.utime(file, (0, 0))


def test_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is missing or empty must not stand for the authorities of the system."""
    full, empty = tmp_path / "full.pem", tmp_path / "empty.pem"
    full.write_text("a certificate")
    empty.write_text("")
    monkeypatch.setenv("DB_SSL_ROOT_CERTIFICATE", "another")
    monkeypatch.setenv("SMVM_VERSION", "1")
    for name, text in {str(full): "a certificate", "system": "", "": "another"}.items():
        monkeypatch.setenv("DB_SSLROOTCERT", name)
        assert Environment().read(None).value("db", "ssl_root_certificate") == text
    for wrong in (empty, tmp_path / "missing", tmp_path):
        monkeypatch.setenv("DB_SSLROOTCERT", str(wrong))
        with pytest.raises(ReadError):
            Environment().read(None)

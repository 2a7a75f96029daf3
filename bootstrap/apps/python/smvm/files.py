"""Credentials of files that a Vault Agent renders, of a mounted Secret, or of the environment.

Files are read again every second, by their paths. So the package notices a file that was replaced
by a rename, a symbolic link that was changed, and a file written in place, without a watch that
could get lost. Mount directories into containers, not single files.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from .credentials import MAX_TTL, Credentials, ReadError

log = logging.getLogger("smvm")

# How long after its time a read of the Agent may be, in seconds.
_LATE = 60

# The procedure's names, and what they are called in creds. Those of config/secrets.yaml are the
# same in lower case.
_FIELDS = {
    "DB_HOST": "db_host",
    "DB_PORT": "db_port",
    "DB_NAME": "db_database",
    "DB_USER": "db_username",
    "DATABASE_PASSWORD": "db_password",
    "DB_SSLMODE": "db_sslmode",
    "DB_SSL_ROOT_CERTIFICATE": "db_ssl_root_certificate",
    "JWT_ALGORITHM": "jwt_algorithm",
    "JWT_KID": "jwt_kid",
    "JWT_SECRET": "jwt_secret",
    "JWT_PUBLIC_KEY": "jwt_public_key",
    "JWT_PRIVATE_KEY": "jwt_private_key",
    "JWT_PREVIOUS_ALGORITHM": "jwt_previous_algorithm",
    "JWT_PREVIOUS_KID": "jwt_previous_kid",
    "JWT_PREVIOUS_SECRET": "jwt_previous_secret",
    "JWT_PREVIOUS_PUBLIC_KEY": "jwt_previous_public_key",
    "API_KEY": "api_key",
    "API_KEY_SHA256": "api_key_sha256",
    "API_PREVIOUS_KEY": "api_previous_key",
    "API_PREVIOUS_KEY_SHA256": "api_previous_key_sha256",
}


class Environment:
    """The variables that a supervising Vault Agent sets (bootstrap/apps/agent/agent-exec.hcl).

    They change with a restart only.
    """

    def read(self, have: Credentials | None) -> Credentials:
        """Implement Reader."""
        return _credentials(os.environ, MAX_TTL, "the environment has no SMVM_VERSION: the Agent that sets it has to start this process")

    def __str__(self) -> str:
        return "the environment of the process, which changes with a restart only"


class AgentFiles:
    """The files .env and config/secrets.yaml that a Vault Agent renders (bootstrap/apps/agent/agent.hcl).

    From read.env it knows when the Agent has read last. If the next read is a minute late, the values
    may be old: then reads fail, and the last values stay in use. The first read does not check
    this, so that a service can start while Vault is away.
    """

    def __init__(self, directory: str | Path, interval: float = 1.0) -> None:
        """directory has both files; interval is the time between two looks at them, in seconds."""
        self._directory, self._interval = Path(directory), interval
        self._warned = False

    def read(self, have: Credentials | None) -> Credentials:
        """Implement Reader. Nothing is taken from the environment: a previous key would never end there."""
        settings = parse_env(self._written(".env"))
        secrets = parse_yaml(self._written("config/secrets.yaml"))
        settings.update({name.upper(): value for name, value in secrets.items()})
        missing = f"{self._directory / '.env'} has no SMVM_VERSION: it is not what a Vault Agent renders with the template of the kit"
        fresh = _credentials(settings, self._interval, missing)
        if have is not None and fresh.same_values(have):
            self._demand_agent()
        return fresh

    def _written(self, name: str) -> str:
        path = self._directory / name
        if not path.exists():
            raise ReadError(f"read {path}: there is no such file; the Vault Agent that writes it logs why")
        return _text(path)

    def _demand_agent(self) -> None:
        """Raise ReadError if the Agent is late. Agents of earlier kits do not tell."""
        path = self._directory / "read.env"
        if not path.exists():
            if not self._warned:
                log.warning(
                    "there is no %s, so a Vault Agent that stops is not noticed: use agent.hcl and the templates of this version, "
                    "and in a container mount the directory, and not its files one by one", path,
                )  # fmt: skip
            self._warned = True
            return
        told = parse_env(_text(path))
        try:
            late = time.time() - float(told["SMVM_READ_AT"]) - float(told["SMVM_TTL"])
        except (KeyError, ValueError):
            raise ReadError(f"read {path}: it is not what a Vault Agent renders with the template of the kit") from None
        if late > _LATE:
            raise ReadError(
                f"the Vault Agent that writes the files in {self._directory} is {late:.0f} s late with its next read of creds: "
                "they may be old. Its log says why; in a container, mount the directory, and not its files one by one"
            )

    def __str__(self) -> str:
        unchanged = _unchanged(self._directory, ".env", "config/secrets.yaml")
        return f"{unchanged}; does the Vault Agent that writes them run (systemctl status smvm-agent)?"


class MountedSecret:
    """A directory with a file for each field of creds, as Kubernetes mounts a Secret into a pod.

    Its keys are those of creds, as in the Secret smvm-api-files of Vault Secrets Operator
    (bootstrap/apps/kubernetes). All files are read from the same version of the directory.
    """

    def __init__(self, directory: str | Path, interval: float = 1.0) -> None:
        """interval is the time between two looks at the directory, in seconds."""
        self._directory, self._interval = Path(directory), interval

    def read(self, have: Credentials | None) -> Credentials:
        """Implement Reader."""
        # The kubelet turns this link to a new directory; what it pointed at is removed then.
        data = self._directory / "..data"
        try:
            directory = data.resolve(strict=True) if data.exists() else self._directory
            values = {each.name: _text(each) for each in directory.iterdir() if each.is_file()}
        except OSError as error:
            raise ReadError(f"read {self._directory}: {error.strerror}") from None
        missing = f"{self._directory} has no file version: it has to be the mount of a Secret with the fields of creds"
        version = _version(values.pop("version", None), f"{missing}. For the files of a Vault Agent, use AgentFiles")
        return Credentials(version, values, self._interval)

    def __str__(self) -> str:
        return f"{_unchanged(self._directory, 'version')}; does the operator that writes the Secret run?"


def parse_env(text: str) -> dict[str, str]:
    """Read a .env file as a shell and systemd do: a value has no quotes, or is all in one pair of them."""
    settings = {}
    for line in text.split("\n"):
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith("#"):
            settings[name] = _unquoted(value)
    return settings


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "'\"":
        return value
    inside = value[1:-1]
    return re.sub(r'\\(["\\$`])', r"\1", inside) if value[0] == '"' else inside


def parse_yaml(text: str) -> dict[str, str]:
    """Read what the Agent's template writes: lines of a name and a string of JSON, and comments.

    Of YAML's many ways to write a string it takes this and plain words. Anything else raises
    ReadError, which names the line and not what it says.
    """
    values = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, value = line.partition(": ")
        value = value.strip()
        try:
            read = json.loads(value) if value.startswith('"') else value
        except ValueError:
            read = None
        plain = isinstance(read, str) and (value.startswith('"') or re.fullmatch(r"[\w./+=-]*", read))
        if not separator or not re.fullmatch(r"\w+", name) or not plain:
            raise ReadError(f"read config/secrets.yaml: line {number} is not a name and a string")
        values[name] = read
    return values


def _credentials(settings: Mapping[str, str], ttl: float, missing: str) -> Credentials:
    values = {field: settings[name] for name, field in _FIELDS.items() if settings.get(name)}
    if "jwt_secret" in values:  # as they are without rotations
        values.setdefault("jwt_algorithm", "HS256")
        values.setdefault("jwt_kid", "1")
    values["db_ssl_root_certificate"] = _authorities(settings)
    return Credentials(_version(settings.get("SMVM_VERSION"), missing), values, ttl)


def _authorities(settings: Mapping[str, str]) -> str:
    """The text of the file that DB_SSLROOTCERT names; empty for those of the system.

    A file that is empty is an error: it would stand for the authorities of the system.
    """
    name = settings.get("DB_SSLROOTCERT", "")
    if name == "system":
        return ""
    if not name:
        return settings.get("DB_SSL_ROOT_CERTIFICATE", "")
    text = _text(Path(name))
    if not text:
        raise ReadError(f"read DB_SSLROOTCERT: {name} is empty")
    return text


def _version(text: str | None, missing: str) -> int:
    if text is None:
        raise ReadError(missing)
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise ReadError("read the version: it is no number")
    return int(text)


def _unchanged(directory: Path, *names: str) -> str:
    """Since when files are as they are. Who writes them may have stopped since, or have had nothing to write."""
    try:
        newest = max((directory / name).stat().st_mtime for name in names)
        since = datetime.fromtimestamp(newest, timezone.utc).isoformat(" ", "seconds")
    except OSError:
        since = "an unknown time"
    return f"the files in {directory}, unchanged since {since}"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ReadError(f"read {path}: {error.strerror}") from None
    except UnicodeError:
        raise ReadError(f"read {path}: it is not UTF-8") from None

"""Where a connection to PostgreSQL goes, how TLS proves that it got there, and who logs in.

All of it is the credentials', so that a password is sent to no place but its own. What libpq's
environment variables say about any of that counts for nothing.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import ssl
import tempfile
from pathlib import Path

import psycopg2
from psycopg2 import extensions

from .credentials import REDACTED, Credentials

# The values of sslmode that the engine answers. Those of libpq that fall back to a connection
# without TLS are not among them.
_MODES = ("disable", "require", "verify-ca", "verify-full")
# The first version of libpq that knows require_auth and sslrootcert=system.
_LIBPQ_16 = 160000
# What is said, so that no environment says something else. A server that went away without a word
# is given up after 10 to 25 seconds, and not after a quarter of an hour.
_DEFAULTS = {
    "connect_timeout": "5", "options": "", "channel_binding": "prefer", "target_session_attrs": "any",
    "tcp_user_timeout": "10000", "keepalives": "1", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
}  # fmt: skip
# What the credentials decide, and an application must not.
_RESERVED = (
    "dsn user password passfile service host hostaddr port dbname database sslmode sslrootcert requiressl gssencmode"
).split()


class Login:
    """The parameters of a connection. It prints as [redacted]; user is the name that it logs in with."""

    __slots__ = ("user", "parameters")

    def __init__(self, user: str, parameters: dict[str, str]) -> None:
        self.user, self.parameters = user, parameters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Login) and self.parameters == other.parameters

    def __repr__(self) -> str:
        return REDACTED


class PlaceError(Exception):
    """The credentials do not say where to connect, or not safely. Its text holds no secret."""


def check_options(options: dict[str, str]) -> None:
    """Raise ValueError if options of an application set what is the credentials', or are none of libpq."""
    wrong = [name for name in _RESERVED if name in options]
    if wrong:
        raise ValueError(f"the credentials decide {', '.join(wrong)}, not the application")
    try:
        extensions.make_dsn(**options)
    except psycopg2.Error as error:  # which names the option, and not its value
        raise ValueError(f"{str(error).strip()}: neither an argument nor a parameter of libpq") from None


def login(credentials: Credentials, secret: str, at: str = "", options: dict[str, str] | None = None) -> Login:
    """Return how to connect with a secret of type database.

    at is another server than the credentials name, such as a PgBouncer on the same machine, as a
    connection string without a login; it has to name sslmode. options are more parameters of
    libpq, such as application_name. Raises PlaceError.
    """
    user = credentials.get(secret, "username")
    if not user or not credentials.get(secret, "password"):  # for either, libpq would look elsewhere
        raise PlaceError(f"connect to PostgreSQL: the credentials have no {secret}_username and {secret}_password")
    parameters = _DEFAULTS | (_elsewhere(at) if at else _place(credentials, secret))
    # Any other way of asking for the password shows it, or what it can be guessed from, to whoever poses as the
    # server. Older versions of libpq cannot refuse it.
    if extensions.libpq_version() >= _LIBPQ_16:
        parameters.setdefault("require_auth", "scram-sha-256")
    parameters |= options or {}
    parameters |= {"user": user, "hostaddr": "", "gssencmode": "disable"}
    # Last, so that no error has a frame with the password in it.
    return Login(user, parameters | {"password": credentials.get(secret, "password")})


def _place(credentials: Credentials, secret: str) -> dict[str, str]:
    text = re.sub(r"^(\w+://)[^/?]*@", r"\1", credentials.get(secret, "connection_string"))  # without the login
    parameters = _parsed(text, secret)
    for name, field in (("host", "host"), ("port", "port"), ("dbname", "database")):
        parameters.setdefault(name, credentials.get(secret, field))
    if not parameters["host"]:
        raise PlaceError(f"connect to PostgreSQL: the credentials have no {secret}_host")
    # Answers from before sslmode was a field have it in connection_string.
    mode = credentials.get(secret, "sslmode") or parameters.get("sslmode") or "verify-full"
    if mode not in _MODES:
        raise PlaceError(f"{secret}_sslmode of the credentials is none of {', '.join(_MODES)}")
    parameters["sslmode"] = mode
    parameters["sslrootcert"] = _root_file(mode, credentials.get(secret, "ssl_root_certificate"))
    return parameters


def _elsewhere(at: str) -> dict[str, str]:
    parameters = _parsed(at, "at")
    if parameters.get("sslmode") not in _MODES:
        raise PlaceError(
            "connect to PostgreSQL: the connection string has to name sslmode: verify-full, verify-ca or require, "
            "or disable for a server on the same machine"
        )
    parameters.setdefault("sslrootcert", _root_file(parameters["sslmode"], ""))
    return parameters


def _parsed(text: str, what: str) -> dict[str, str]:
    """The parameters of a connection string, as libpq reads it, without those that log in."""
    if not text:
        return {}
    try:
        found: dict[str, str] = extensions.parse_dsn(text)
    except psycopg2.Error:
        # The cause quotes the text.
        raise PlaceError(
            f"connect to PostgreSQL: where {what} is, is not to be understood by libpq {extensions.libpq_version()}"
        ) from None
    mine = ("user", "password", "passfile", "service", "hostaddr", "sslrootcert" if what != "at" else "")
    return {name: value for name, value in found.items() if name not in mine}


def _root_file(mode: str, certificates: str) -> str:
    """The file with the authorities that may vouch for the server. It takes a file: libpq reads no text."""
    if certificates:
        return _files.holding(certificates)
    if not mode.startswith("verify-"):
        return "/dev/null/none"  # one in the home directory would count
    if mode == "verify-full" and extensions.libpq_version() >= _LIBPQ_16:
        return "system"
    paths = ssl.get_default_verify_paths()
    return paths.cafile or "/etc/ssl/certs/ca-certificates.crt"


class _Files:
    """Files with certificates, which only this process reads.

    In memory where the system can do that: nobody removes such a file, or puts another in its
    place, while the process runs.
    """

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def holding(self, text: str) -> str:
        name = hashlib.sha256(text.encode()).hexdigest()
        if name not in self._paths:
            self._paths[name] = self._made(name, text.encode())
        return self._paths[name]

    def _made(self, name: str, text: bytes) -> str:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("smvm-authorities")
            with open(descriptor, "wb", closefd=False) as file:
                file.write(text)
            return f"/proc/self/fd/{descriptor}"
        directory = tempfile.mkdtemp(prefix="smvm-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        path = Path(directory, name)
        path.write_bytes(text)
        return str(path)


_files = _Files()

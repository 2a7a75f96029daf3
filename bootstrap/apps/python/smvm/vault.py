"""Credentials of Vault's API, or through the listener of a Vault Agent or Vault Proxy."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from .credentials import Credentials, OtherRotation, ReadError, demand, parse
from .source import renew_after_fork

# Bounds what is read of one answer, in bytes.
_MAX_ANSWER = 1 << 20
# What a renewed token must still live to be worth keeping, in seconds.
_MIN_TOKEN_LIFE = 5.0
# Stands for ever, in seconds.
_MAX_TOKEN_LIFE = 100 * 365 * 24 * 60 * 60
# The pause after a refused login, in seconds. Vault counts refused logins for each role_id: 5 of them, each less
# than 15 minutes after the one before, lock it out for 15 minutes, for all who use it. While it is locked out (403),
# logins are not counted.
_REFUSED_PAUSE, _LOCKED_PAUSE = 16 * 60.0, 60.0
# What a failure of TLS means.
_TLS_CAUSES = {
    "WRONG_VERSION_NUMBER": "; the address begins with https, and what listens there speaks no TLS: is it http?",
    "CERTIFICATE_VERIFY_FAILED": "; for a Vault with a private CA, pass ca_file",
}


class StatusError(ReadError):
    """An answer of Vault other than success; code is the HTTP status. Vault's errors hold no value of the engine."""

    def __init__(self, code: int, errors: list[str], path: str, hint: str = "") -> None:
        super().__init__(f"Vault answers {code} to {path}: {'; '.join([*errors, *filter(None, [hint])])}")
        self.code, self.errors = code, errors


class Auth(Protocol):
    """A way to log in to Vault."""

    def token(self, vault: Vault) -> str:
        """Return a token that is valid, logging in where it has to; raise ReadError if there is none."""

    def refused(self) -> None:
        """Hear that Vault has refused the last token."""


class Vault:
    """Reads the credentials of a role, and has tokens signed with keys that stay in the engine.

    Redirects are not followed, and over http no proxy is used, whatever the environment
    says: a request has a token or a login in it, which is for the given address only.
    Over https a proxy of the environment is used; it sees neither.
    """

    def __init__(
        self,
        address: str,
        path: str,
        auth: Auth | None = None,
        *,
        ca_file: str | None = None,
        namespace: str = "",
        timeout: float = 10.0,
    ) -> None:
        """address is Vault's or an Agent's, such as http://127.0.0.1:8100; path is smvm/creds/<role>.

        auth gets the tokens; with an Agent or a Proxy that adds its own, it is None. ca_file has
        the authorities that vouch for Vault, in PEM; None for the system's. namespace is of Vault
        Enterprise. timeout bounds one request, in seconds.
        """
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError("the address of Vault has to be like https://vault.example.com:8200")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("the address of Vault ends with its host and port, without a path such as /v1 or /ui")
        if auth is not None:
            demand(auth, "token", "auth has to be an AppRole(...), a TokenFile(...) or a Token(...)")
        if "/" in path.strip("/").partition("/creds/")[2]:
            raise ValueError("the path has to be that of a role, smvm/creds/<role>: all its secrets are read at once")
        self._address, self._path, self._auth = address.rstrip("/"), path.strip("/"), auth
        self._namespace, self._timeout = namespace, timeout
        self._opener = urllib.request.OpenerDirector()  # without handlers for redirects, files and ftp
        if parts.scheme == "https":
            self._opener.add_handler(urllib.request.ProxyHandler())
            self._opener.add_handler(urllib.request.HTTPSHandler(context=_trusting(ca_file)))
        else:
            self._opener.add_handler(urllib.request.HTTPHandler())

    def read(self, have: Credentials | None) -> Credentials:
        """Implement Reader.

        It asks for values only if the version is another one, unless a previous value is held:
        that such a value has ended makes no new version, and must be noticed. After Vault was
        restored from a snapshot, a rotation makes a version that there was before: then it asks
        for values as well.
        """
        query = f"?if_version={have.version}" if have and not have.offers_previous() else ""
        try:
            return parse(self._ask("GET", self._path + query).get("data"), have)
        except OtherRotation:
            return self.read(None)

    def __str__(self) -> str:
        return f"{self._path} of {self._address}"

    def sign(self, secret: str, claims: Mapping[str, Any]) -> str:
        """Have the engine sign claims with the current key of a secret of type jwt; return the token.

        exp says how long the token is to live; without it, it lives as long as it may. iat and nbf
        are of now. The login needs the policy for jwt/<role>/<secret>/sign. What the secret does not
        allow raises StatusError.
        """
        named, now = dict(claims), int(time.time())
        body: dict[str, Any] = {"claims": named}
        expires = named.pop("exp", None)
        named.pop("iat", None)
        if isinstance(named.get("nbf"), (int, float)) and named["nbf"] <= now:
            del named["nbf"]  # one to come stays, for the engine to refuse
        if expires is not None:
            body["ttl"] = int(expires) - now
            if body["ttl"] <= 0:
                raise ValueError("exp is not in the future")
        # Without a role in the path, it is the role default.
        mount, _, role = self._path.removesuffix("/creds").partition("/creds/")
        data = self._ask("POST", f"{mount}/jwt/{role or 'default'}/{secret}/sign", body).get("data")
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not token:
            raise ReadError("sign token: the answer has none")
        return token

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request with a token. One that is refused is replaced, once."""
        if self._auth is None:
            return self.call(method, path, "", body)
        try:
            return self.call(method, path, self._auth.token(self), body)
        except StatusError as error:
            if error.code != 403:
                raise
        self._auth.refused()
        return self.call(method, path, self._auth.token(self), body)

    def call(self, method: str, path: str, token: str = "", body: object = None) -> dict[str, Any]:
        """Send one request to Vault's API and return the answer; raise ReadError for any other than success."""
        request = urllib.request.Request(f"{self._address}/v1/{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        request.add_header("X-Vault-Request", "true")
        if token:
            request.add_header("X-Vault-Token", token)
        if self._namespace:
            request.add_header("X-Vault-Namespace", self._namespace)
        deadline = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                text = _read_all(response, deadline)
                return _decode(response.status, response.headers, text, path, bool(token))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # What these say may quote the answer or a header.
            reason = getattr(error, "reason", error)
            told = str(reason) if isinstance(reason, (ssl.SSLError, OSError)) else type(error).__name__
            raise ReadError(f"ask Vault: {told}{_TLS_CAUSES.get(getattr(reason, 'reason', ''), '')}") from None


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # which does not name the file
        reason = "it has no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"ca_file {ca_file}: {reason}") from None


def _read_all(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Read an answer, which whoever sends it can make neither endless nor slow without end."""
    text = b""
    while part := response.read1(1 << 16):
        text += part
        if len(text) > _MAX_ANSWER:
            raise ReadError("ask Vault: the answer is too long")
        if time.monotonic() > deadline:
            raise ReadError("ask Vault: the answer takes too long")
    return text


def _decode(status: int, headers: Mapping[str, str], text: bytes, path: str, with_token: bool) -> dict[str, Any]:
    if 300 <= status < 400:
        raise ReadError(
            f"ask Vault: it answers {status} and points at {_target(headers)}, which is not followed, because the "
            "request has a token or a login in it: set the address to the active server or to a load balancer "
            "before it, or let standby servers forward requests"
        )
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if status >= 400:
        errors = answer.get("errors") if isinstance(answer, dict) else None
        told, hint = [str(each) for each in errors] if isinstance(errors, list) else [], ""
        if not isinstance(errors, list):
            hint = "that is no answer of Vault's: is it the address of a Vault, with https where it speaks TLS?"
        elif status == 403 and with_token:
            hint = "the path may be wrong, or the token's policy does not allow it"
        elif status == 403 and not path.startswith("auth/"):
            hint = "no token was sent: pass auth, such as AppRole(...), or use an Agent or Proxy that adds its own"
        raise StatusError(status, told, path.partition("?")[0], hint)
    if not isinstance(answer, dict):
        raise ReadError("decode answer of Vault: it is not the JSON it should be")
    return answer


def _target(headers: Mapping[str, str]) -> str:
    """Where an answer points, without what may be a secret."""
    try:
        parts = urllib.parse.urlsplit(headers.get("Location", ""))
        if parts.scheme and parts.hostname and parts.netloc.isprintable():
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    except ValueError:
        pass
    return "another address"


class Token:
    """A token that somebody else keeps valid."""

    def __init__(self, token: str) -> None:
        demand(token, "encode", "token has to be a str")
        if not token:
            raise ValueError("token is empty: is VAULT_TOKEN set?")
        self._token = _checked(token)

    def token(self, vault: Vault) -> str:
        """Implement Auth."""
        return self._token

    def refused(self) -> None:
        """Implement Auth. There is no other token to get."""


class TokenFile:
    """A file with a token, such as the file sink of a Vault Agent. It is read for every request."""

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def token(self, vault: Vault) -> str:
        """Implement Auth."""
        return _read_file(self._path)

    def refused(self) -> None:
        """Implement Auth. The file is read again anyway."""


class AppRole:
    """Logs in with the two files of Vault's AppRole method, which are read at each login.

    It renews its token after two thirds of the token's life, and logs in again when that is
    not possible. When Vault refuses the files, they are offered again after 16 minutes only, or as
    soon as they have changed: some more refused logins would lock the role_id out for all who use it.
    """

    def __init__(self, role_id_file: str | Path, secret_id_file: str | Path, mount: str = "approle") -> None:
        self._role_id_file, self._secret_id_file, self._mount = role_id_file, secret_id_file, mount
        self._token = ""
        self._refusal: tuple[dict[str, str], float, str] | None = None  # what was refused, until when, and why
        self._renew = self._ends = 0.0  # by time.monotonic(): to be renewed from then on, not valid from then on
        self._lock = threading.Lock()
        renew_after_fork(self, AppRole._in_child)

    def token(self, vault: Vault) -> str:
        """Implement Auth."""
        with self._lock:
            now = time.monotonic()
            if self._token and now < self._renew:
                return self._token
            if self._token and now < self._ends and self._renewed(vault):
                return self._token
            self._login(vault)
            return self._token

    def refused(self) -> None:
        """Implement Auth: the next request logs in."""
        with self._lock:
            self._token = ""

    def _in_child(self) -> None:
        self._lock = threading.Lock()

    def _renewed(self, vault: Vault) -> bool:
        try:
            self._keep(vault.call("POST", "auth/token/renew-self", self._token))
        except ReadError:
            return False
        return time.monotonic() + _MIN_TOKEN_LIFE < self._ends

    def _login(self, vault: Vault) -> None:
        self._token = ""
        body = {"role_id": _read_file(self._role_id_file), "secret_id": _read_file(self._secret_id_file)}
        if self._refusal and self._refusal[0] == body and time.monotonic() < self._refusal[1]:
            raise ReadError(self._refusal[2])
        try:
            self._keep(vault.call("POST", f"auth/{self._mount}/login", "", body))
        except ReadError as error:
            told = f"log in to Vault: {error}"
            if isinstance(error, StatusError) and error.code in (400, 403) and error.errors:
                pause, cause = self._why(error.code)
                told += cause
                self._refusal = body, time.monotonic() + pause, told
            raise ReadError(told) from None

    def _why(self, code: int) -> tuple[float, str]:
        """For how long not to log in again after such an answer, and what it means."""
        if code == 403:
            return _LOCKED_PAUSE, (
                f"; too many wrong logins have locked the role_id of {self._role_id_file} out for all who use it (`vault read "
                "sys/locked-users` tells), or the namespace or the mount of the login is wrong. Next try in a minute"
            )
        return _REFUSED_PAUSE, (
            f"; the secret_id in {self._secret_id_file} is wrong or has ended, or the role_id in {self._role_id_file} is. Next try "
            "when a file has changed, or in 16 minutes: after 5 wrong logins Vault locks the role_id out for all who use it"
        )

    def _keep(self, answer: Mapping[str, Any]) -> None:
        """Take over a token; one without an end is never renewed.

        An answer without a token is what a login gets that Vault wants more factors for.
        """
        auth = answer.get("auth")
        auth = auth if isinstance(auth, dict) else {}
        token, seconds = auth.get("client_token"), auth.get("lease_duration")
        if not isinstance(token, str) or not token or not isinstance(seconds, int) or not 0 <= seconds < 1 << 63:
            raise ReadError("the answer has no token that is valid; the login has to do without further factors")
        life = min(seconds, _MAX_TOKEN_LIFE) or _MAX_TOKEN_LIFE
        now = time.monotonic()
        self._token, self._ends = _checked(token), now + life
        self._renew = now + life * 2 / 3 if auth.get("renewable") is True else self._ends


def _read_file(path: str | Path) -> str:
    try:
        text = _checked(Path(path).read_text(encoding="utf-8").strip())
        if not text:
            raise ReadError(f"read token or login: {path} is empty")
        return text
    except (OSError, UnicodeError) as error:
        # A token or login itself in the place of its file's path is not to be told.
        told = str(path) if "/" in str(path) else "what was given as the path of its file"
        raise ReadError(f"read token or login: {told}: {type(error).__name__}") from None


def _checked(token: str) -> str:
    """A token as a header takes it: errors about any other would quote it."""
    if not token.isascii() or not token.isprintable():
        raise ReadError("a token or login has a line feed or another character in it that none has")
    return token

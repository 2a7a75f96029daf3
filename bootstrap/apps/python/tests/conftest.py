from __future__ import annotations

import http.server
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from smvm import Credentials, ReadError, Source  # noqa: E402


class Script:
    """A reader that answers version 1, 2 and so on, with keys for each."""

    def __init__(self) -> None:
        self.reads = 0
        self.away = False
        self.error: Exception = ReadError("Vault is away")

    def read(self, have: Credentials | None) -> Credentials:
        self.reads += 1
        if self.away:
            raise self.error
        n = self.reads
        return Credentials(n, {"api_key": f"key-{n}", "api_previous_key": f"key-{n - 1}"} | jwt_of(n, n - 1))


def jwt_of(n: int, previous: int | None) -> dict[str, str]:
    """What creds answers of a signing key and, unless that is None, of the previous one."""
    values = {"jwt_algorithm": "HS256", "jwt_kid": str(n), "jwt_secret": f"a secret of version {n:032d}"}
    if previous is not None:
        values |= {"jwt_previous_kid": str(previous), "jwt_previous_secret": f"a secret of version {previous:032d}"}
    return values


class Settable:
    """A reader that answers what it was given."""

    def __init__(self, **values: str) -> None:
        self.version = itertools.count(1)
        self.set(**values)

    def set(self, **values: str) -> None:
        self.credentials = Credentials(next(self.version), values)

    def read(self, have: Credentials | None) -> Credentials:
        return self.credentials


@pytest.fixture
def opened() -> Iterator[Callable[..., Source]]:
    """Makes sources that are closed at the end."""
    sources: list[Source] = []

    def make(reader: Any, **options: Any) -> Source:
        sources.append(Source(reader, **{"min_interval": 0.02, **options}))
        return sources[-1]

    yield make
    for source in sources:
        source.close()


class FakeVault:
    """A server that answers what respond returns: status, headers, body."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.respond: Callable[[Any], tuple[int, dict[str, str], str]] = lambda request: (200, {}, "{}")
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.requests.append(self)
                status, headers, text = fake.respond(self)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                try:
                    self.wfile.write(text.encode())
                except OSError:
                    pass

            do_GET = do_POST = do_CONNECT = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    fake = FakeVault()
    yield fake
    fake.close()


@pytest.fixture
def other() -> Iterator[FakeVault]:
    fake = FakeVault()
    yield fake
    fake.close()


def eventually(what: str, check: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)

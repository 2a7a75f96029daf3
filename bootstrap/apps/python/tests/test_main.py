"""The example service, over a pool that is made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from conftest import Script
from fastapi.testclient import TestClient

from smvm import Source
from smvm.main import create_app
from smvm.place import PlaceError
from smvm.pool import CommitUnknown


class FakePool:
    failure: Exception | None = None

    def with_retry(self, work: Any, *, idempotent: bool = False) -> Any:
        if self.failure:
            raise self.failure
        return {"id": 1, "login": "orders_a"}


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def client(opened: Callable[..., Source], pool: FakePool) -> Iterator[TestClient]:
    source = opened(Script())
    with TestClient(create_app(source, pool)) as made:  # type: ignore[arg-type]
        yield made


def test_health(client: TestClient, pool: FakePool) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    told = answer.json()
    assert re.match(r"version 1, read \d+ s ago from ", told.pop("credentials"))
    assert told == {"status": "ok", "version": 1, "database_user": "", "failed_reads": 0}
    pool.failure = psycopg2.OperationalError("hunter2")
    answer = client.get("/health")
    assert answer.status_code == 503 and "hunter2" not in answer.text


def test_keys_and_tokens(client: TestClient) -> None:
    for key, status in {"key-1": 200, "key-0": 200, "wrong": 401}.items():
        assert client.get("/api/test", headers={"X-API-Key": key}).status_code == status
    assert client.get("/api/test").status_code == 401
    token = client.post("/api/token", headers={"X-API-Key": "key-2"}).json()["token"]
    for text, status in {f"Bearer {token}": 200, "Bearer wrong": 401, "": 401}.items():
        assert client.post("/api/test", headers={"Authorization": text}).status_code == status
    assert client.post("/api/token", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_database_away(client: TestClient, pool: FakePool, caplog: pytest.LogCaptureFixture) -> None:
    for pool.failure in (psycopg2.OperationalError("hunter2"), CommitUnknown(), PlaceError("hunter2")):
        answer = client.get("/api/test", headers={"X-API-Key": "key-1"})
        assert answer.status_code == 503 and answer.json() == {"error": "the database did not answer"}
    assert "hunter2" not in caplog.text

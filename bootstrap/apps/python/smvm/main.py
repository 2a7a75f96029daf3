"""The service of the rotation procedure, small but honest: it works in PostgreSQL and accepts JWTs and API keys.

It is there to be copied from: all that it does for rotations is marked by "rotation".

    python -m smvm.main --from vault --path smvm/creds/default     # VAULT_ADDR, VAULT_CACERT, SMVM_ROLE_ID_FILE, …
    python -m smvm.main --from files --dir /var/lib/smvm-api       # what a Vault Agent renders
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import uuid
from typing import Any

import jwt
import psycopg2
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse

from smvm import AgentFiles, AppRole, Environment, MountedSecret, Reader, Source, Token, Vault, reload_on_hangup
from smvm import keys, tokens
from smvm.place import PlaceError
from smvm.pool import CommitUnknown, Connection, Pool, PoolTimeout

ISSUER = "smvm-api"
TOKEN_LIFE = 15 * 60  # seconds
SCHEMA = """SELECT pg_advisory_xact_lock(7381920);
CREATE TABLE IF NOT EXISTS smvm_python_requests (
    request uuid PRIMARY KEY,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT now(),
    login text NOT NULL DEFAULT session_user
)"""
READ = "SELECT coalesce(max(id), 0), session_user FROM smvm_python_requests"
# Done twice, it writes one row: so it may be repeated even if the answer to COMMIT was lost.
WRITE = """INSERT INTO smvm_python_requests (request) VALUES (%s)
ON CONFLICT (request) DO UPDATE SET request = excluded.request RETURNING id, login"""


def query(connection: Connection, sql: str, *values: str) -> dict[str, Any]:
    """Run a statement that returns an id and who asked."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
    return {"id": row[0], "login": row[1]}


def execute(connection: Connection, sql: str) -> None:
    """Run a statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def create_app(source: Source, pool: Pool, engine: Vault | None = None) -> FastAPI:
    """Make the service. engine signs tokens if the key stays there."""
    app = FastAPI(title="smvm-api", docs_url=None, redoc_url=None)

    def by_key(x_api_key: str | None = Header(None)) -> None:
        if not keys.accepts(source, x_api_key):  # rotation
            raise HTTPException(401, "send an API key that is valid")

    def by_token_or_key(authorization: str | None = Header(None), x_api_key: str | None = Header(None)) -> None:
        if authorization is None:
            return by_key(x_api_key)
        try:
            tokens.decode(source, authorization.removeprefix("Bearer "), issuer=ISSUER)  # rotation
        except jwt.InvalidTokenError:
            raise HTTPException(401, "send a token that is valid") from None

    @app.exception_handler(psycopg2.Error)
    @app.exception_handler(PlaceError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(CommitUnknown)
    def database_failed(_request: object, error: Exception) -> JSONResponse:
        logging.getLogger("smvm.api").error(
            "query database: %s %s", type(error).__name__, getattr(error, "pgcode", None) or ""
        )
        return JSONResponse({"error": "the database did not answer"}, 503)

    @app.get("/health")
    def health() -> JSONResponse:
        current = source.current
        answer = {
            "status": "ok",
            "version": current.version,
            "database_user": current.get("db", "username"),
            "failed_reads": source.failing,
            "credentials": source.origin,
        }
        try:
            pool.with_retry(lambda connection: execute(connection, "SELECT 1"), idempotent=True)  # rotation
        except (psycopg2.Error, PlaceError, PoolTimeout):
            answer["status"] = "the database does not answer"
        if not source.running:
            answer["status"] = "new credentials are no longer read"
        return JSONResponse(answer, 200 if answer["status"] == "ok" else 503)

    @app.post("/api/token", dependencies=[Depends(by_key)])
    def issue_token() -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "api-key", "iat": now, "exp": now + TOKEN_LIFE}
        return {"token": tokens.sign(source, claims, engine=engine), "expires_in": TOKEN_LIFE}  # rotation

    @app.get("/api/test", dependencies=[Depends(by_token_or_key)])
    def read_test() -> dict[str, Any]:
        return pool.with_retry(lambda connection: query(connection, READ), idempotent=True)  # rotation

    @app.post("/api/test", dependencies=[Depends(by_token_or_key)])
    def write_test() -> dict[str, Any]:
        request = str(uuid.uuid4())
        return pool.with_retry(lambda connection: query(connection, WRITE, request), idempotent=True)  # rotation

    return app


def reader_of(arguments: argparse.Namespace) -> Reader:
    """What reads the credentials. Without a login in the environment, a Vault Agent or Proxy has to add the token."""
    if arguments.source == "files":
        return AgentFiles(arguments.dir)
    if arguments.source == "secret":
        return MountedSecret(arguments.dir)
    if arguments.source == "environment":
        return Environment()
    auth: AppRole | Token | None = None
    if role_id := os.environ.get("SMVM_ROLE_ID_FILE"):
        auth = AppRole(role_id, os.environ.get("SMVM_SECRET_ID_FILE", ""))
    elif token := os.environ.get("VAULT_TOKEN"):
        auth = Token(token)
    return Vault(
        os.environ.get("VAULT_ADDR", "https://127.0.0.1:8200"),
        arguments.path,
        auth,
        ca_file=os.environ.get("VAULT_CACERT") or None,
        namespace=os.environ.get("VAULT_NAMESPACE", ""),
    )


def main() -> None:
    """Serve until SIGTERM, and answer what was asked until then."""
    options = argparse.ArgumentParser(prog="python -m smvm.main", description="The service of the rotation procedure.")
    options.add_argument("--host", default="127.0.0.1", help="address to serve at")
    options.add_argument("--port", type=int, default=8000, help="port to serve at")
    options.add_argument(
        "--from", dest="source", default="vault", choices=["vault", "files", "secret", "environment"], help="where the credentials are"
    )
    options.add_argument("--path", default="smvm/creds/default", help="path of the role's credentials, from vault")
    options.add_argument("--dir", default=".", help="directory, from files or a mounted secret")
    arguments = options.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    reader = reader_of(arguments)
    source = Source(reader)  # rotation
    reload_on_hangup(source)  # rotation
    pool = Pool(source, application_name="smvm-api")  # rotation
    pool.with_retry(lambda connection: execute(connection, SCHEMA), idempotent=True)
    app = create_app(source, pool, reader if isinstance(reader, Vault) else None)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")
    pool.close()
    source.close()


if __name__ == "__main__":
    main()

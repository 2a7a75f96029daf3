"""What a Python service needs to run on rotating credentials without a restart and without a failed request.

A Source holds the credentials of a role and keeps them current:

    source = Source(Vault("https://vault.example.com:8200", "smvm/creds/orders", AppRole("/etc/orders/role_id", "/etc/orders/secret_id")))
    source = Source(AgentFiles("/var/lib/smvm-api"))         # or: what a Vault Agent renders
    reload_on_hangup(source)                                 # systemctl reload

Make it, and a Pool, once for each process, when it starts.
What was read is used through it, never copied out of it. "db", "jwt" and "api" are the names of
secrets of the role; each module imports only the driver that it serves:

    pool = smvm.pool.Pool(source, "db")                      # psycopg2: new logins, old ones drain
    pool.with_retry(lambda connection: ...)                  # a transaction, once more if its connection ends
    smvm.alchemy.follow(engine, source, "db")                # the same for an engine of SQLAlchemy
    smvm.tokens.sign(source, claims)                         # PyJWT: with a key that other instances know
    smvm.tokens.decode(source, token)                        # by kid: current or previous
    smvm.keys.accepts(source, key)                           # current or previous, in constant time

All of it blocks, so in asynchronous code call it in threads; FastAPI does that for functions made
by def. While Vault is away everything goes on with the last values. That includes previous ones:
only Vault says when they end.
"""

from .credentials import Credentials, Reader, ReadError
from .files import AgentFiles, Environment, MountedSecret
from .source import Source, reload_on_hangup
from .vault import AppRole, StatusError, Token, TokenFile, Vault

__all__ = [
    "AgentFiles",
    "AppRole",
    "Credentials",
    "Environment",
    "MountedSecret",
    "ReadError",
    "Reader",
    "Source",
    "StatusError",
    "Token",
    "TokenFile",
    "Vault",
    "reload_on_hangup",
]

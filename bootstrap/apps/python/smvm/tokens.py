"""JSON Web Tokens: signed with the key of a secret of type jwt, verified with the current and the previous one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from .credentials import Credentials
from .source import Source
from .vault import Vault


class UnknownKey(jwt.InvalidTokenError):
    """A token is of a key that is neither the current nor the previous one."""


def sign(source: Source, claims: Mapping[str, Any], secret: str = "jwt", *, engine: Vault | None = None) -> str:
    """Sign claims, and name the key in the token's header (kid).

    That is done here with an HMAC key or an exportable private key. It is the current key, but for one
    refresh after a rotation the previous one: other instances may not have read the new key yet. With a
    key that stays in the engine, engine signs, with the current key (see Vault.sign); without engine
    this raises ValueError. Give the claims exp: decode refuses tokens without it.
    """
    credentials = _signing(source, secret)
    key = credentials.get(secret, "secret") or credentials.get(secret, "private_key")
    if not key and engine is not None:
        return engine.sign(secret, claims)
    algorithm, kid = credentials.get(secret, "algorithm"), credentials.get(secret, "kid")
    if not key or not algorithm or not kid:
        raise ValueError(f"sign token: the credentials have no {secret} that signs")
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers={"kid": kid})


def _signing(source: Source, secret: str) -> Credentials:
    """The credentials whose key signs: the confirmed ones, as long as the current ones have their key as the previous key.

    After a rollback that is not so: the confirmed ones know the current key, as their previous one.
    """
    current, confirmed = source.current, source.confirmed
    accepted = confirmed.get(secret, "kid") == current.get(secret, "previous_kid")
    known = confirmed.get(secret, "previous_kid") == current.get(secret, "kid")
    return confirmed if accepted and not known else current


def decode(
    source: Source,
    token: str,
    secret: str = "jwt",
    *,
    issuer: str | None = None,
    audience: str | None = None,
    require: Sequence[str] = ("exp",),
    leeway: float = 0.0,
) -> dict[str, Any]:
    """Verify a token and return its claims; raise jwt.InvalidTokenError, of which UnknownKey is one.

    If the role has no such secret, this raises ValueError: nobody could get in.

    The key is the one that kid in the token's header names: the current one, or in the overlap the
    previous one. A kid that is neither makes the source read again, because another instance may have
    seen a rotation first. The algorithm is that of the key, whatever the token says. issuer and
    audience are what the claims have to say, require which of them have to be there. leeway is how
    far clocks may differ, in seconds.
    """
    if not source.current.get(secret, "kid"):
        raise ValueError(f"verify token: the credentials have no {secret} that verifies")
    kid = str(jwt.get_unverified_header(token).get("kid") or "")
    if not kid:
        raise UnknownKey("the token names no key")
    found = source.settle(lambda credentials: _key(credentials, secret, kid))
    if found is None:
        raise UnknownKey("the token is of an unknown key")
    key, algorithm = found
    options = {"require": list(require), "verify_signature": True}
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=[algorithm], options=options, issuer=issuer, audience=audience, leeway=leeway
    )
    return claims


def _key(credentials: Credentials, secret: str, kid: str) -> tuple[str, str] | None:
    """The key of that id that verifies, and its algorithm."""
    for stage in ("", "previous_"):
        if kid == credentials.get(secret, stage + "kid"):
            key = credentials.get(secret, stage + "secret") or credentials.get(secret, stage + "public_key")
            # Where the previous algorithm is not told, it is the current one.
            algorithm = credentials.get(secret, stage + "algorithm") or credentials.get(secret, "algorithm")
            return (key, algorithm) if key and algorithm else None
    return None

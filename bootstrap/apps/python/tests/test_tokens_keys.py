from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from conftest import Script, Settable, eventually, jwt_of
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from smvm import Credentials, ReadError, Source, keys, tokens

Open = Callable[..., Source]


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": int(time.time()) + 60} | more


def test_current_and_previous(opened: Open) -> None:
    source = opened(Script())
    token = tokens.sign(source, claims(iss="orders"))
    assert jwt.get_unverified_header(token)["kid"] == "1"
    assert source.refresh()
    assert tokens.decode(source, token, issuer="orders")["sub"] == "alice"
    with pytest.raises(jwt.InvalidIssuerError):
        tokens.decode(source, token, issuer="other")
    assert source.refresh()
    with pytest.raises(tokens.UnknownKey):
        tokens.decode(source, token)


class Scarce:
    """A reader that reads a signing key every 20 ms, as many times as it may, and then fails."""

    def __init__(self) -> None:
        self.answers(1, 1, None, reads=1)

    def answers(self, version: int, key: int, previous: int | None, reads: int) -> None:
        answer = Credentials(version, jwt_of(key, previous), 0.02)
        self.left = iter([answer] * reads)

    def read(self, have: Credentials | None) -> Credentials:
        answer = next(self.left, None)
        if answer is None:
            raise ReadError("Vault is away")
        return answer


def test_signs_with_a_new_key_one_refresh_later(opened: Open) -> None:
    """While Vault is away, what one instance has just read another does not have to know."""
    reader, other = Scarce(), Scarce()
    signer, verifier = opened(reader), opened(other)

    def signs_with(kid: int) -> bool:
        token = tokens.sign(signer, claims())
        return jwt.get_unverified_header(token)["kid"] == str(kid) and tokens.decode(verifier, token)["sub"] == "alice"

    reader.answers(2, 2, 1, reads=1)
    eventually("a read of the new key, and others that fail", lambda: signer.current.version == 2 and signer.failing > 1)
    assert signs_with(1) and verifier.current.version == 1
    for each in (reader, other):
        each.answers(2, 2, 1, reads=100_000)
    eventually("the new key to sign", lambda: signs_with(2))
    other.answers(2, 2, 1, reads=0)
    reader.answers(3, 1, 2, reads=1)  # a rollback: everybody knows that key
    eventually("the key from before", lambda: signer.current.version == 3)
    assert signs_with(1) and verifier.current.version == 2
    other.answers(4, 3, None, reads=100_000)
    reader.answers(4, 3, None, reads=1)  # revoke_previous
    eventually("the newest key", lambda: signer.current.version == 4)
    assert signs_with(3)


def test_asks_for_an_unknown_key(opened: Open) -> None:
    reader = Script()
    source = opened(reader)
    new = jwt.encode(claims(), f"a secret of version {2:032d}", "HS256", headers={"kid": "2"})
    assert tokens.decode(source, new)["sub"] == "alice" and reader.reads == 2


@pytest.mark.parametrize("forge", [
    lambda c: jwt.encode(c, None, "none", headers={"kid": "1"}),  # type: ignore[arg-type]
    lambda c: jwt.encode(c, f"a secret of version {1:032d}", "HS512", headers={"kid": "1"}),
    lambda c: jwt.encode(c, f"a secret of version {1:032d}", "HS256"),
    lambda c: jwt.encode({"sub": "x"}, f"a secret of version {1:032d}", "HS256", headers={"kid": "1"}),
    lambda c: jwt.encode(c | {"exp": 1}, f"a secret of version {1:032d}", "HS256", headers={"kid": "1"}),
    lambda c: "hunter2", lambda c: "a.b.c",
])  # fmt: skip
def test_refused(opened: Open, forge: Callable[[dict[str, Any]], str]) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        tokens.decode(opened(Script()), forge(claims()))


def pems(key: Any) -> tuple[str, str]:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_each_key_by_its_own_algorithm(opened: Open) -> None:
    rs = rsa.generate_private_key(65537, 2048)
    every = {"RS256": rs, "PS256": rs, "ES256": ec.generate_private_key(ec.SECP256R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
    for algorithm, key in every.items():
        for previous, before in every.items():
            private, public = pems(key)
            values = {"jwt_algorithm": algorithm, "jwt_kid": "new", "jwt_private_key": private, "jwt_public_key": public}
            values |= {"jwt_previous_kid": "old", "jwt_previous_algorithm": previous, "jwt_previous_public_key": pems(before)[1]}
            source = opened(Settable(**values))
            old = jwt.encode(claims(), pems(before)[0], previous, headers={"kid": "old"})
            for token in (tokens.sign(source, claims()), old):
                assert tokens.decode(source, token)["sub"] == "alice"
            if algorithm == "RS256":
                with pytest.raises(jwt.InvalidTokenError):
                    tokens.decode(source, jwt.encode(claims(), private, "PS256", headers={"kid": "new"}))
            with pytest.raises(jwt.InvalidTokenError):  # signed with the public key, as if it were a secret
                tokens.decode(source, signed_with(public, "new"))


def signed_with(text: str, kid: str) -> str:
    """A token of HMAC over what PyJWT refuses to sign with."""
    import base64
    import hmac
    import json

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    body = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}).encode()) + b"." + part(json.dumps(claims()).encode())
    return (body + b"." + part(hmac.digest(text.encode(), body, "sha256"))).decode()


def test_secrets_that_there_are_not(opened: Open) -> None:
    """A name that is wrong is no token or key that is wrong: nobody could get in."""
    source = opened(Script())
    for call in (lambda: tokens.decode(source, tokens.sign(source, claims()), "token"), lambda: keys.accepts(source, "key-1", "keys")):
        with pytest.raises(ValueError, match="the credentials have no (token|keys) "):
            call()


def test_keys_that_are_no_text(opened: Open) -> None:
    with pytest.raises(TypeError, match="has to be a str, not bytes") as failure:
        keys.accepts(opened(Script()), b"hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(failure.value)


def test_signing_without_a_key(opened: Open) -> None:
    with pytest.raises(ValueError):
        tokens.sign(opened(Settable(jwt_algorithm="ES256", jwt_kid="1", jwt_public_key="x")), claims())


def test_api_keys(opened: Open) -> None:
    """Current, previous, and the next, for which it reads again; the rest is refused."""
    source = opened(Script())
    for key in ("key-1", "key-0", "key-2"):
        assert keys.accepts(source, key), key
    for key in ("", None, "key-0", "wrong", "\udc80", "kéy"):
        assert not keys.accepts(source, key), key
    with pytest.raises(ValueError, match="no none with keys"):
        keys.accepts(source, "x", "none")


def test_hashes_of_api_keys(opened: Open) -> None:
    current, previous = (hashlib.sha256(key).hexdigest() for key in (b"a", b"b"))
    source = opened(Settable(api_key_sha256=current, api_previous_key_sha256=previous))
    assert keys.accepts(source, "a") and keys.accepts(source, "b") and not keys.accepts(source, current)
    assert not keys.accepts(opened(Settable(api_key_sha256="no hash")), "a")

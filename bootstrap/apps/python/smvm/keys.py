"""API keys: accepts the current and the previous value of a secret of type api_key."""

from __future__ import annotations

import hashlib
import hmac

from .credentials import Credentials
from .source import Source


def accepts(source: Source, offered: str | None, secret: str = "api") -> bool:
    """Whether offered is the current value, or in the overlap the previous one.

    How long a comparison takes tells nothing about the values. A key that is neither makes the
    source read again, because whoever sends it may have seen a rotation first: that takes 3 seconds
    at most. For a secret with hash_only the hashes are compared, which creds answers. If the role
    has no such secret, this raises ValueError: nobody could get in.
    """
    current = source.current
    if not current.get(secret, "key") and not current.get(secret, "key_sha256"):
        raise ValueError(f"compare API key: the credentials have no {secret} with keys")
    if not offered:
        return False
    if not isinstance(offered, str):
        raise TypeError(f"compare API key: the key that is offered has to be a str, not {type(offered).__name__}")
    digest = hashlib.sha256(offered.encode("utf-8", "surrogatepass")).digest()
    return source.settle(lambda credentials: _accepts(credentials, digest, secret) or None) is True


def _accepts(credentials: Credentials, digest: bytes, secret: str) -> bool:
    """Compare digests, which have the same length whatever was offered, and always all of them."""
    accepted = False
    for stage in ("", "previous_"):
        key = credentials.get(secret, stage + "key")
        kept = credentials.get(secret, stage + "key_sha256")
        expected = hashlib.sha256(key.encode()).digest() if key else _unhex(kept)
        accepted |= hmac.compare_digest(digest, expected)
    return accepted


def _unhex(text: str) -> bytes:
    """A hash; one that is none equals nothing."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""

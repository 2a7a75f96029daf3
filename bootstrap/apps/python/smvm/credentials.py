"""The credentials of a role at one version, and how they are read from an answer of creds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

REDACTED = "[redacted]"

# The longest wait until the next read, in seconds, whatever an answer says.
MAX_TTL = 24 * 60 * 60


class ReadError(Exception):
    """The credentials could not be read. Its text holds no secret."""


class OtherRotation(ReadError):
    """The answer has the version that the reader has, of another rotation: Vault was restored in between."""


class Credentials:
    """The values of a role at one version. They do not change, and print as [redacted].

    version: the role's; every committed change makes it larger.
    ttl: how long to wait before reading again, in seconds.
    last_rotation: when that version was committed; None if the reader does not know.
    """

    __slots__ = ("version", "ttl", "last_rotation", "_values")

    def __init__(
        self, version: int, values: Mapping[str, str], ttl: float = MAX_TTL, last_rotation: datetime | None = None
    ) -> None:
        """values are fields as smvm/creds/<role> answers them, such as db_username."""
        self.version = version
        self.ttl = ttl
        self.last_rotation = last_rotation
        self._values = dict(values)

    def value(self, secret: str, field: str) -> str:
        """Return a field of a secret, such as "password" of "db". One that there is not raises ValueError.

        A field previous_... is empty outside the overlap.
        """
        if f"{secret}_{field}" not in self._values and not field.startswith("previous_"):
            there = sorted(name for name in self._values if name.startswith(f"{secret}_")) or sorted(self._values)
            raise ValueError(f"the credentials have no {secret}_{field}; there is {', '.join(there) or 'nothing'}")
        return self.get(secret, field)

    def get(self, secret: str, field: str) -> str:
        """Return a field of a secret; empty if there is none."""
        return self._values.get(f"{secret}_{field}", "")

    def offers_previous(self) -> bool:
        """Whether a value from before the last rotation is still accepted. That ends without a new version."""
        return any("_previous_" in name for name in self._values)

    def same_values(self, other: Credentials) -> bool:
        """Whether the other has the same version and the same values."""
        return self.version == other.version and self._values == other._values

    def __repr__(self) -> str:
        return REDACTED

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("credentials are not to be copied out of the process")


def demand(value: object, method: str, told: str) -> None:
    """Raise TypeError, which says what was to be given, if a value has no such method. It does not quote the value."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        was = f"the class {value.__name__} itself" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{told}, not {was}")


class Reader(Protocol):
    """Whatever knows the credentials: a Vault, files, the environment, or a class of your own."""

    def read(self, have: Credentials | None) -> Credentials:
        """Return the credentials of now, or raise ReadError. have are those that were read last, None at first.

        A Source calls it from one thread at a time.
        """


def parse(data: object, have: Credentials | None) -> Credentials:
    """Make credentials of the data of an answer of creds. What creds never answers raises ReadError."""
    if not isinstance(data, dict):
        raise ReadError("read the answer: it has no data; is this the path of smvm/creds/<role>?")
    version, ttl = _whole(data, "version", 1), _whole(data, "ttl", 0)
    # The ttl is cut to whole seconds, so what it waits for comes within the next.
    pause = min(ttl, MAX_TTL - 1) + 1
    rotated = _time(data.get("last_vault_rotation"))
    if data.get("changed") is False:
        if have is None or have.version != version:
            raise ReadError("read the answer: it says that nothing has changed since a version that was not asked about")
        if rotated != have.last_rotation:
            raise OtherRotation("read the answer: its version is that of another rotation")
        return Credentials(version, have._values, pause, rotated)
    times = ("last_vault_rotation", "next_vault_rotation")
    values = {name: value for name, value in data.items() if isinstance(value, str) and name not in times}
    if not values:
        raise ReadError("read the answer: it has no values; is this the path of smvm/creds/<role>?")
    return Credentials(version, values, pause, rotated)


def _whole(data: Mapping[str, object], name: str, least: int) -> int:
    number = data.get(name)
    # True is an int to Python. What no 64 bits hold is no number of the engine's.
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number < 1 << 63:
        raise ReadError(
            f"read {name} of the answer: it is no whole number from {least} on; is this the path of smvm/creds/<role>?"
        )
    return number


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None

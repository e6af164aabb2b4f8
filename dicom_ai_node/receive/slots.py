"""Who has an association with which receiver of a node: a table in memory that they share."""

import ipaddress
import mmap
import os
from contextlib import suppress
from struct import Struct
from typing import Self

_OWNER = Struct("=q")
_ADDRESS = 16
_FREE = bytes(_ADDRESS)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def make(*, rows: int, columns: int) -> int:
    """Return the descriptor of an empty table: ``columns`` associations for each receiver."""
    descriptor = os.memfd_create("associations", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, rows * _row_size(columns))
    return descriptor


class Slots:
    """The table, seen by the receiver that owns ``row``.

    Each row has one writer, so nobody waits for anybody. It begins with the process id of its
    owner: what a receiver that was killed has left counts no longer.
    """

    def __init__(self, descriptor: int, *, row: int, columns: int) -> None:
        self._columns = columns
        self._size = _row_size(columns)
        self._table = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        self._mine = row * self._size
        self._table[self._mine : self._mine + self._size] = bytes(self._size)
        _OWNER.pack_into(self._table, self._mine, os.getpid())

    @classmethod
    def alone(cls, columns: int) -> Self:
        """Return the table of a receiver without siblings."""
        descriptor = make(rows=1, columns=columns)
        try:
            return cls(descriptor, row=0, columns=columns)
        finally:
            os.close(descriptor)

    def take(self, address: Address) -> int | None:
        """Note an association of ``address`` and return its place; None when the row is full."""
        for place in self._places(self._mine):
            if self._at(place) == _FREE:
                self._table[place : place + _ADDRESS] = _key(address)
                return place
        return None

    def give_back(self, place: int) -> None:
        """Forget the association at ``place``."""
        self._table[place : place + _ADDRESS] = _FREE

    def count_of(self, address: Address) -> int:
        """Return how many associations the address has, with all receivers that live."""
        wanted, found = _key(address), 0
        for row in range(0, len(self._table), self._size):
            in_row = sum(1 for place in self._places(row) if self._at(place) == wanted)
            if in_row and (row == self._mine or _lives(self._owner(row))):
                found += in_row
        return found

    def close(self) -> None:
        """Give the row back."""
        self._table[self._mine : self._mine + self._size] = bytes(self._size)
        self._table.close()

    def _owner(self, row: int) -> int:
        (pid,) = _OWNER.unpack_from(self._table, row)
        return int(pid)

    def _places(self, row: int) -> range:
        first = row + _OWNER.size
        return range(first, first + self._columns * _ADDRESS, _ADDRESS)

    def _at(self, place: int) -> bytes:
        return self._table[place : place + _ADDRESS]


def _row_size(columns: int) -> int:
    return _OWNER.size + columns * _ADDRESS


def _key(address: Address) -> bytes:
    """16 bytes that are never all zero: IPv4 as IPv6 writes it (RFC 4291 2.5.5.2)."""
    if isinstance(address, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + address.packed
    return address.packed


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True

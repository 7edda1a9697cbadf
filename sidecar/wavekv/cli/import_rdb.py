"""The shape of a dump of Redis (RDB), looked at before the library decodes it: are all its lengths true, is it strings?

The library takes a compressed string's word for how long it will be, and a word that lies ends the process. So each
entry is stepped over here first. Nothing is decoded, and what holds anything but strings is refused at its first other
entry.
"""

import struct
from typing import Final

from wavekv.cli.records import shown
from wavekv.errors import UsageError

UNPACKED_BYTES_MAX: Final = 1 << 30
"""What all compressed strings of a dump may come to together: they are held in memory, as the dump is."""
_EXPANSION_MAX: Final = 264
"""Bytes that one byte of LZF can stand for, and more than it ever does: three bytes copy 264."""
_HEADER_BYTES: Final = len("REDIS0011")
_STRING: Final = 0
_LZF: Final = 3
_END: Final = 0xFF
_FIXED: Final = {0xFD: 4, 0xFC: 8, 0xF9: 1}
"""Bytes behind the codes of an expiry in seconds or milliseconds, and of a key's frequency."""
_LENGTHS: Final = {0xFE: 1, 0xFB: 2, 0xF8: 1, 0xF4: 3}
"""Lengths behind the codes of a database, its sizes, a key's idle time, and a slot."""
_AUXILIARY: Final = 0xFA
_KINDS: Final = {
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "sorted set"),
    **dict.fromkeys((4, 9, 13, 16), "hash"),
    **dict.fromkeys((15, 19, 21), "stream"),
}
_FIRST_CODE: Final = 0xF0


def check_shape(content: bytes) -> None:
    """Step over all entries of a dump whose end and checksum hold.

    Raises:
        UsageError: a length does not fit what is there, or something is no string.
    """
    walk = _Walk(content)
    try:
        while walk.entry():
            pass
    except (IndexError, struct.error) as error:
        raise UsageError(f"the dump is damaged at byte {walk.place}; nothing was stored") from error


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._unpacked_bytes = 0
        self.place = _HEADER_BYTES

    def entry(self) -> bool:
        """Step over one entry; tell whether it was not the end."""
        code = self._byte()
        if code == _END:
            return False
        if code in _FIXED:
            self._skip(_FIXED[code])
        elif code in _LENGTHS:
            for _ in range(_LENGTHS[code]):
                self._length()
        elif code in {_AUXILIARY, _STRING}:
            self._string()
            self._string()
        else:
            self._refuse(code)
        return True

    def _refuse(self, code: int) -> None:
        if code >= _FIRST_CODE:
            raise UsageError(f"the dump holds functions or data of a module (code {code}); only strings are read")
        key = self._string()
        kind = _KINDS.get(code, f"value of type {code}")
        name = shown(key.decode("utf-8", "backslashreplace"))
        raise UsageError(f"the key {name} of the dump is a {kind}; only strings are read")

    def _byte(self) -> int:
        byte = self._content[self.place]
        self.place += 1
        return byte

    def _skip(self, count: int) -> bytes:
        if count > len(self._content) - self.place:
            raise UsageError(
                f"the dump is damaged: a length at byte {self.place} is beyond its end; nothing was stored"
            )
        self.place += count
        return self._content[self.place - count : self.place]

    def _length(self) -> int:
        found, special = self._coded()
        if special:
            raise UsageError(f"the dump is damaged at byte {self.place}; nothing was stored")
        return found

    def _coded(self) -> tuple[int, bool]:
        """Return a length, or the way a string is packed and that it is one."""
        first = self._byte()
        if first < 0x40:
            return first, False
        if first < 0x80:
            return (first & 0x3F) << 8 | self._byte(), False
        if first >= 0xC0:
            return first & 0x3F, True
        if first not in {0x80, 0x81}:
            raise UsageError(f"the dump is damaged at byte {self.place}; nothing was stored")
        return int.from_bytes(self._skip(4 if first == 0x80 else 8), "big"), False

    def _string(self) -> bytes:
        """Step over a string; return its bytes as they stand."""
        found, special = self._coded()
        if not special:
            return self._skip(found)
        if found < _LZF:
            return self._skip(1 << found)
        if found > _LZF:
            raise UsageError(f"the dump is damaged at byte {self.place}; nothing was stored")
        packed, unpacked = self._length(), self._length()
        text = self._skip(packed)
        self._unpacked_bytes += unpacked
        if unpacked > packed * _EXPANSION_MAX:
            raise UsageError(
                f"the dump is damaged: {packed} bytes at byte {self.place - packed} say they unpack to {unpacked}; "
                "nothing was stored"
            )
        if self._unpacked_bytes > UNPACKED_BYTES_MAX:
            raise UsageError(f"the strings of the dump unpack to more than {UNPACKED_BYTES_MAX} bytes; split it")
        return text

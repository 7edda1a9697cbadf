"""Closed segments for tests, cut from one log as the log would cut it."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from wavekv.core.codec.records import encode_group, encode_header
from wavekv.core.ops import Op
from wavekv.wal.directory import IDENTITY, Identity, encode_identity
from wavekv.wal.segment import segment_name

IDENTITY_1 = Identity(1, 1, UUID(int=0xAA01), None, 1, 1_700_000_000_000)


def write_identity(directory: Path) -> None:
    """Make `directory` that of node 1."""
    (directory / IDENTITY).write_bytes(encode_identity(IDENTITY_1))


def write_segment(
    directory: Path, number: int, groups: Sequence[Sequence[Op]], sequence: int, next_seq: int = 1
) -> int:
    """Write the groups as segment `number`, its first record numbered `sequence`; return the sequence behind it."""
    content = [encode_header(1, 1_700_000_000_000)]
    for ops in groups:
        data, records = encode_group(ops, sequence, next_seq)
        content.append(data)
        sequence += records
    (directory / segment_name(number)).write_bytes(b"".join(content))
    return sequence


def write_segments(
    directory: Path, segments: Sequence[Sequence[Sequence[Op]]], first: int = 1, sequence: int = 1
) -> int:
    """Write several, in order; return the sequence behind the last."""
    for number, groups in enumerate(segments, start=first):
        sequence = write_segment(directory, number, groups, sequence)
    return sequence

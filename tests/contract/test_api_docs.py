"""docs/api.md names every error code of `wavekv.errors`, the command line's with their exit codes, and every limit."""

import re
from collections.abc import Iterator
from pathlib import Path

from wavekv import errors
from wavekv.cli.engine_settings import EngineFlags, compaction_from, engine_arguments, limits_from
from wavekv.cli.errors import MemberUnreachable
from wavekv.config import CompactionSettings, Limits
from wavekv.errors import WaveKVError

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def tree(top: type[WaveKVError] = WaveKVError) -> Iterator[type[WaveKVError]]:
    """Yield `top` and every error below it that the member or its command line defines."""
    if top.__module__.startswith(f"{errors.__name__}.") or top.__module__ == MemberUnreachable.__module__:
        yield top
    for below in top.__subclasses__():
        yield from tree(below)


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind `heading`."""
    table = DOCUMENT.split(heading)[1].split("\n\n|", 1)[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def test_every_code_of_the_errors_is_documented() -> None:
    missing = sorted({error.code for error in tree() if f"`{error.code}`" not in DOCUMENT})
    assert missing == [], f"docs/api.md lacks these codes of wavekv.errors: {', '.join(missing)}"


def test_the_command_lines_codes_exist_and_end_as_documented() -> None:
    exits = {error.code: error.exit_code for error in tree()}
    documented = {
        code: int(status)
        for status, codes, _ in rows("**Errors of the command line**")
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert documented == {code: exits.get(code) for code in documented}
    assert {error.code for error in tree() if error.exit_code != 1} <= documented.keys()


def flags(column: int) -> EngineFlags:
    """Return the flags of the table of limits with the values of a column, or of one side of the bounds."""
    given = {}
    for cells in rows("**Limits and compaction**"):
        name = cells[0].strip("`").split()[0].removeprefix("--").replace("-", "_")
        default, (least, most) = cells[1], cells[2].split(" … ")
        given[name] = (default, least, most)[column]
    return EngineFlags(**given)


def test_the_documented_defaults_of_limits_are_the_members() -> None:
    documented = flags(0)
    assert len(engine_arguments(documented)) == 2 * len(EngineFlags.__dataclass_fields__)
    assert limits_from(documented) == Limits()
    assert compaction_from(documented) == CompactionSettings()


def test_the_documented_bounds_of_limits_are_taken() -> None:
    least, most = limits_from(flags(1)), limits_from(flags(2))
    assert (least.entries_max, least.bytes_max, least.key_bytes_max, least.value_bytes_max) == (1, 1 << 20, 1, 1)
    assert (most.key_bytes_max, most.value_bytes_max) == (most.wire_key_bytes_max, most.wire_value_bytes_max)
    assert compaction_from(flags(1)).log_bytes_min == 1 << 20
    assert compaction_from(flags(2)).age_ms_max == 31_536_000_000

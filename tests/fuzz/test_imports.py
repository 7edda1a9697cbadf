"""A short run of mutated files through the import; the long one is `python -m tests.fuzz.imports`."""

from pathlib import Path

from tests.fuzz.imports import SEEDS, run, stands
from wavekv.cli.import_reader import Record


def test_nothing_comes_out_of_a_mutated_file_that_was_not_in_it(tmp_path: Path) -> None:
    outcome = run(400, 1, tmp_path)
    assert outcome.records > 400
    assert outcome.ends["refused"] > 20
    assert outcome.ends["read"] > 100
    assert len(SEEDS) == 8


def test_a_record_that_was_not_in_its_file_is_found_out() -> None:
    for style, make in SEEDS.items():
        assert not stands(Record(1, "a", b"nowhere"), make(), style)
        assert not stands(Record(1, "nowhere", b"1"), make(), style)

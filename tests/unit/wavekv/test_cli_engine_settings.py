"""Limits and compaction of `wavekv serve`: what the flags become, exactly at their bounds, and what is refused."""

from dataclasses import replace

import pytest

from wavekv.__main__ import run
from wavekv.cli.engine_settings import EngineFlags, compaction_from, engine_arguments, limits_from
from wavekv.config import CompactionSettings, Limits
from wavekv.errors import UsageError

KI, MI, GI = 1 << 10, 1 << 20, 1 << 30

LIMITS = [
    ("limit_entries", "entries_max", "1", 1),
    ("limit_entries", "entries_max", "10000000", 10_000_000),
    ("limit_bytes", "bytes_max", "1048576", MI),
    ("limit_bytes", "bytes_max", "1024Ki", MI),
    ("limit_bytes", "bytes_max", "512Mi", 512 * MI),
    ("limit_bytes", "bytes_max", "1073741824", GI),
    ("limit_bytes", "bytes_max", "64Gi", 64 * GI),
    ("limit_key_bytes", "key_bytes_max", "1", 1),
    ("limit_key_bytes", "key_bytes_max", "1024", 1024),
    ("limit_value_bytes", "value_bytes_max", "1", 1),
    ("limit_value_bytes", "value_bytes_max", "64Ki", 64 * KI),
    ("limit_value_bytes", "value_bytes_max", "1Mi", MI),
]
COMPACTION = [
    ("compact_log_bytes", "log_bytes_min", "1Mi", MI),
    ("compact_log_bytes", "log_bytes_min", "64Gi", 64 * GI),
    ("compact_age", "age_ms_max", "1", 1000),
    ("compact_age", "age_ms_max", "31536000", 31_536_000_000),
]
OUTSIDE = [
    ("limit_entries", "0", "1…10000000", "1000000"),
    ("limit_entries", "10000001", "1…10000000", "1000000"),
    ("limit_bytes", "1048575", "1Mi…64Gi", "1Gi"),
    ("limit_bytes", "68719476737", "1Mi…64Gi", "1Gi"),
    ("limit_key_bytes", "0", "1…1024", "512"),
    ("limit_key_bytes", "1025", "1…1024", "512"),
    ("limit_value_bytes", "0", "1…1Mi", "64Ki"),
    ("limit_value_bytes", "1048577", "1…1Mi", "64Ki"),
    ("compact_log_bytes", "1023Ki", "1Mi…64Gi", "32Mi"),
    ("compact_log_bytes", "65Gi", "1Mi…64Gi", "32Mi"),
    ("compact_age", "0", "1…31536000", "3600"),
    ("compact_age", "31536001", "1…31536000", "3600"),
]


@pytest.mark.parametrize(("flag", "field", "text", "value"), LIMITS)
def test_a_limit_at_its_bounds_is_taken(flag: str, field: str, text: str, value: int) -> None:
    assert limits_from(EngineFlags(**{flag: text})) == replace(Limits(), **{field: value})


@pytest.mark.parametrize(("flag", "field", "text", "value"), COMPACTION)
def test_a_compaction_setting_at_its_bounds_is_taken(flag: str, field: str, text: str, value: int) -> None:
    assert compaction_from(EngineFlags(**{flag: text})) == replace(CompactionSettings(), **{field: value})


def test_without_flags_the_defaults_hold() -> None:
    assert limits_from(EngineFlags()) == Limits()
    assert (Limits().entries_max, Limits().bytes_max) == (1_000_000, GI)
    assert (Limits().key_bytes_max, Limits().value_bytes_max) == (1024, MI)
    assert compaction_from(EngineFlags()) == CompactionSettings()
    assert (CompactionSettings().log_bytes_min, CompactionSettings().age_ms_max) == (32 * MI, 3_600_000)


def refusal(**flags: str) -> str:
    read = compaction_from if next(iter(flags)).startswith("compact") else limits_from
    with pytest.raises(UsageError) as caught:
        read(EngineFlags(**flags))
    assert caught.value.exit_code == 2
    return caught.value.detail


@pytest.mark.parametrize(("flag", "text", "bounds", "example"), OUTSIDE)
def test_a_value_outside_its_bounds_is_refused_with_flag_bounds_and_example(
    flag: str, text: str, bounds: str, example: str
) -> None:
    named = "--" + flag.replace("_", "-")
    said = refusal(**{flag: text})
    assert said.startswith(f"{named} {text} is outside {bounds}")
    assert said.endswith(f"for example {named} {example}")


@pytest.mark.parametrize("flag", ["limit_key_bytes", "limit_value_bytes"])
def test_a_limit_above_the_wires_says_who_would_refuse_the_entries(flag: str) -> None:
    assert "original system" in refusal(**{flag: "2000000"})


@pytest.mark.parametrize("text", ["", " 1Mi", "1 Mi", "1.5Gi", "1G", "1gi", "-1", "1e9", "Mi", "1Ti", "٣Mi", "9" * 20])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    assert refusal(limit_bytes=text).endswith("for example --limit-bytes 1Gi")


@pytest.mark.parametrize("text", ["", "1Ki", "1.0", "-1", "1_000", "many", "9" * 20])
def test_what_is_no_number_is_refused_with_an_example(text: str) -> None:
    assert refusal(limit_entries=text).endswith("for example --limit-entries 1000000")


def test_only_what_was_given_is_handed_on() -> None:
    assert engine_arguments(EngineFlags()) == []
    given = EngineFlags(limit_bytes="2Gi", compact_age="5")
    assert engine_arguments(given) == ["--limit-bytes", "2Gi", "--compact-age", "5"]


def test_the_variable_counts_as_the_flag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WAVEKV_LIMIT_VALUE_BYTES", "2Mi")
    assert run(["serve", "--data-dir", "data"]) == 2
    assert "--limit-value-bytes 2Mi is outside 1…1Mi" in capsys.readouterr().err

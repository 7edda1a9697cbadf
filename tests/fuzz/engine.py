"""One target under Atheris, in a process of its own: python -m tests.fuzz.engine TARGET [libFuzzer options] FOLDER…"""

import sys

import atheris

SLOWER = 4.0
"""How many times slower instrumented code runs, at most."""


def main() -> None:
    """Fuzz until the options say enough, or an input fails."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=["wavekv", "wavekv_operator"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented while it is imported
    from tests.fuzz.budget import check_within  # noqa: PLC0415

    target = TARGETS[name]

    def one(data: bytes) -> None:
        check_within(target.run, target.prepare(bytes(data)), slower=SLOWER)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

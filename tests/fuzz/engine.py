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
    from tests.fuzz.budget import run_within  # noqa: PLC0415

    run = TARGETS[name].run
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: run_within(run, bytes(data), slower=SLOWER))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Runs all commands where something that is usually there is not: outputs, folders, a terminal, a compiler.

    python tests/surroundings.py --record docs/results/surroundings.md

takes some minutes. It is no part of `make test`. Each command gets a process of its own, forked from one that has
imported everything and spoilt before the command starts.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from attack import Answer, forked
from attacks.bench import TINY, Bench
from attacks.folders import OPENING, SHORT


def closed(number: int) -> None:
    """What Python makes of an output that is closed when it starts."""
    name = {1: "stdout", 2: "stderr"}[number]
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
    os.close(number)


def into(number: int, descriptor: int) -> None:
    os.dup2(descriptor, number)
    name = {1: "stdout", 2: "stderr"}[number]
    setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def broken(number: int) -> None:
    """A pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    into(number, write)


def unset(name: str) -> None:
    os.environ.pop(name, None)


def unwritable(name: str) -> None:
    """A folder that is not there, as for root every folder can be written."""
    os.environ[name] = "/proc/nothing"
    tempfile.tempdir = None


def ascii_only() -> None:
    sys.stdout = open(1, "w", encoding="ascii", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="ascii", errors="backslashreplace", closefd=False)  # noqa: SIM115


def without_folder() -> None:
    here = Path("gone").absolute()
    here.mkdir()
    os.chdir(here)
    here.rmdir()


SURROUNDINGS: dict[str, Callable[[], object]] = {
    "as usual": lambda: None,
    "standard output closed": lambda: closed(1),
    "standard error closed": lambda: closed(2),
    "nobody reads standard output": lambda: broken(1),
    "nobody reads standard error": lambda: broken(2),
    "standard output on a full disk": lambda: into(1, os.open("/dev/full", os.O_WRONLY)),
    "no `HOME`": lambda: unset("HOME"),
    "a `HOME` that cannot be written": lambda: unwritable("HOME"),
    "a `TMPDIR` that cannot be written": lambda: unwritable("TMPDIR"),
    "no `TERM`": lambda: unset("TERM"),
    "a terminal of 10 columns": lambda: os.environ.update(COLUMNS="10", LINES="3", FORCE_COLOR="1"),
    "an output in ASCII": ascii_only,
    "umask 0": lambda: os.umask(0),
    "umask 777": lambda: os.umask(0o777),
    "no `PATH`, and so no compiler": lambda: os.environ.update(PATH="/nothing", CXX="none"),
    "a working folder that is gone": without_folder,
}
COMMANDS = {
    **OPENING,
    "evaluate --json": ["evaluate", "run", *SHORT, "--json"],
    "compare --csv": ["compare", "run", "run", *SHORT, "--csv"],
    "train": ["train", *TINY, "--data", "{seeds}/x.npz", "--out", "new"],
    "train, figures": ["train", *TINY[:4], "--data", "{seeds}/x.npz", "--out", "new"],
    "train --compile on": ["train", *TINY[:5], "--compile", "on", "--data", "{seeds}/x.npz", "--out", "new"],
    "impute": ["impute", "holes", "--out", "t.csv", "--particles", "2"],
    "data": ["data", "digits"],
    "parts": ["parts"],
    "--help": ["--help"],
    "wrong input": ["evaluate", "nothing"],
}

# It takes a minute of a compiler's time, and is asked where that may matter.
COMPILED = "train --compile on"
COMPILED_IN = ("as usual", "a `TMPDIR` that cannot be written", "no `PATH`, and so no compiler")


def fallen(answer: Answer) -> str:
    """What an answer has that it must not."""
    if answer.wrong:
        return answer.wrong
    if "Traceback" in answer.err or "Exception ignored" in answer.err:
        return "traceback"
    return "" if answer.status in (0, 1, 2, 141) else f"status {answer.status}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--surroundings", nargs="*", default=list(SURROUNDINGS))
    parser.add_argument("--record", type=Path, help="a Markdown file for the results")
    options = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "agg")
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    table: dict[str, dict[str, str]] = {}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="surroundings-") as home:
        bench = Bench(Path(home).resolve(), forked)
        bench.run("plain", Path(home) / "warm")
        for surrounding in options.surroundings:
            row = table.setdefault(surrounding, {})
            for command in options.commands:
                if command == COMPILED and surrounding not in COMPILED_IN:
                    row[command] = ""
                    continue
                place = Path(tempfile.mkdtemp(dir=home))
                work = place / "work"
                for name in ("work", "home", "tmp"):
                    (place / name).mkdir()
                bench.run(
                    "missing" if command == "impute" else "plain", work / ("holes" if command == "impute" else "run")
                )
                given = [word.replace("{seeds}", str(bench.seeds)) for word in COMMANDS[command]]
                if surrounding == "a working folder that is gone":
                    given = [str(work / word) if word in ("run", "holes", "new", "t.csv") else word for word in given]
                answer = forked(given, work, SURROUNDINGS[surrounding])
                bad = fallen(answer)
                wrong += bool(bad)
                row[command] = f"**{bad}**" if bad else str(answer.status)
                if bad or answer.status:
                    print(f"{surrounding}, {command}: {bad or answer.status}: {answer.err[-300:]!a}", flush=True)
    if options.record:
        options.record.write_text(report(table), encoding="utf-8")
    print(f"{wrong} fallen")
    if wrong:
        raise SystemExit(1)


def report(table: dict[str, dict[str, str]]) -> str:
    commands = list(next(iter(table.values())))
    lines = "\n".join(f"| {name} | {' | '.join(row[c] for c in commands)} |" for name, row in table.items())
    return f"""# Surroundings

Exit statuses of all commands where something is not as usual. 0 is success; 1 or 2 and one line on standard error
(as far as there is one) say what cannot be written; 141 is how a shell says that nobody reads the output. No command
ends with a traceback, hangs, or leaves a half-written file.

| | {" | ".join(commands)} |
|---|{"---|" * len(commands)}
{lines}

`python tests/surroundings.py`: as root, forked from one process; the compiler is asked in three rows.
"""


if __name__ == "__main__":
    main()

"""Attacks all commands and readers with inputs that nobody should send, and records what they answer.

    python tests/attack.py --record docs/results/attacks.md

takes half an hour of a core. It is no part of `make test`, which runs a hundred of them (`--take 100`). Each input gets
a process of its own, forked from one that has imported everything, in a folder of its own. Such a process must end
within 30 seconds of work, stay within 1 GiB, end with 0, 1 or 2 and one line of why, run no code that the input brought
along, and write nothing outside of its folder. The inputs are in `attacks/`; a new door joins its table `DOORS`.
"""

import argparse
import gc
import os
import platform
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import attacks
from attacks.bench import RUNS, Attack, Bench, said_of

# Everything that a command may import, once.
import pyro_vae.analysis.analyze
import pyro_vae.analysis.comparison
import pyro_vae.analysis.explore.standalone
import pyro_vae.analysis.figures
import pyro_vae.analysis.report
import pyro_vae.analysis.sweep_figure
import pyro_vae.run.sweep
import pyro_vae.run.train  # noqa: F401
from pyro_vae.cli import main as pyro_vae_main

SECONDS = 30
GROWTH = 1 << 30
ADDRESSES = 24 << 30


class Answer(NamedTuple):
    """What a process did: its exit status, its two outputs, seconds of work, growth in bytes, and what was wrong."""

    status: int
    out: str
    err: str
    seconds: float
    growth: int
    wrong: str = ""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def called(command: list[str], work: Path, out: Path, err: Path, spoil: Callable[[], object]) -> None:
    """What the forked process does; it does not return."""
    status = 70
    try:
        os.setsid()
        os.chdir(work)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(HOME=str(work.parent / "home"), TMPDIR=str(work.parent / "tmp"))
        tempfile.tempdir = None
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        spoil()
        pyro_vae_main(command)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        try:  # as the interpreter's end does it
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except BaseException:
            status = 120
        finally:
            os._exit(status)


def forked(command: list[str], work: Path, spoil: Callable[[], object] = lambda: None, wall: float = 600) -> Answer:
    """Runs a command in a process of its own, in a folder that has others beside it, after something was spoilt."""
    out, err = work.parent / "out", work.parent / "err"
    before = resident()
    began = time.monotonic()
    process = os.fork()
    if not process:
        called(command, work, out, err, spoil)
    wrong = ""
    while True:
        ended, status, used = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - began > wall and not wrong:
            wrong = f"hangs for {wall:g} seconds"
            os.kill(process, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    texts = [path.read_bytes().decode(errors="surrogateescape") if path.exists() else "" for path in (out, err)]
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and not wrong:
        wrong = f"works for {SECONDS} seconds"
    return Answer(code, *texts, used.ru_utime + used.ru_stime, max(0, (used.ru_maxrss << 10) - before), wrong)


def judged(answer: Answer, place: Path, before: dict[str, tuple[int, bytes]]) -> Answer:
    """Says what is wrong with an answer, the worst first."""
    lines = answer.err.splitlines()
    wrong = answer.wrong
    if (place / "elsewhere" / "executed").exists() or any(place.rglob("executed")):
        wrong = "CODE WAS RUN"
    elif state(place / "elsewhere") != before:
        wrong = "A FILE OUTSIDE WAS CHANGED"
    elif left := [path.name for path in (place / "tmp").iterdir() if not path.name.startswith("torchinductor_")]:
        wrong = wrong or f"left {left[0]} in TMPDIR"
    elif "Traceback" in answer.err:
        wrong = "traceback"
    elif not wrong and answer.growth > GROWTH:
        wrong = f"grew by {answer.growth >> 20} MiB"
    elif not wrong and answer.status not in (0, 1, 2, 130):
        wrong = f"status {answer.status}"
    elif not wrong and answer.status and not (lines and lines[-1].startswith("pyro-vae: ")):
        wrong = "no line of why"
    elif not wrong and answer.status == 2 and len(lines) > 1:
        wrong = f"{len(lines)} lines"
    if not wrong and not all(c.isprintable() or c in "\n" for c in answer.out):
        wrong = "control characters on standard output"
    if not wrong and answer.status and len(answer.err) > 3000:
        wrong = f"a line of {len(answer.err)} characters"
    return answer._replace(wrong=wrong)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*")}


def attacked(attack: Attack, bench: Bench, wall: float) -> Answer:
    place = Path(tempfile.mkdtemp(prefix="attack-", dir=bench.home))
    for name in ("work", "elsewhere", "home", "tmp"):
        (place / name).mkdir()
    (place / "elsewhere" / "precious.txt").write_text("precious")
    try:
        attack.prepare(bench, place / "work")
        before = state(place / "elsewhere")
        return judged(forked(attack.command, place / "work", attack.spoil, wall), place, before)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _set(every: list[Attack], bench: Bench, wall: float) -> None:
    global _every, _bench, _wall
    _every, _bench, _wall = every, bench, wall


def _attacked(number: int) -> tuple[int, Answer]:
    return number, attacked(_every[number], _bench, _wall)


def chosen(options: argparse.Namespace) -> Iterator[Attack]:
    every = [attack for door in options.doors or attacks.DOORS for attack in attacks.made(door)]
    if options.only:
        every = [attack for attack in every if options.only in f"{attack.what} {' '.join(attack.command)}"]
    if options.take and options.take < len(every):
        every = random.Random(options.seed).sample(every, options.take)
    yield from every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", help=f"of {', '.join(attacks.DOORS)}; all of them if omitted")
    parser.add_argument("--only", help="inputs with this text in what they are")
    parser.add_argument("--take", type=int, help="so many of them, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="a Markdown file for the results")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="so many at a time")
    parser.add_argument("--wall", type=float, default=120, help="seconds of the clock for one; more on a busy machine")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "agg")
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # threads of libraries, which bear a fork
    fallen: list[tuple[Attack, Answer]] = []
    rows: dict[str, Counter[str]] = {}
    every = [*chosen(options)]
    with tempfile.TemporaryDirectory(prefix="attacks-") as home:
        bench = Bench(Path(home).resolve(), forked)
        for kind in RUNS:
            bench.run(kind, Path(home, "whole", kind))
        gc.collect()
        gc.freeze()  # what is shared with the forked processes is not looked at by theirs
        with get_context("fork").Pool(options.jobs, initializer=_set, initargs=(every, bench, options.wall)) as pool:
            for number, answer in pool.imap_unordered(_attacked, range(len(every))):
                attack = every[number]
                row = rows.setdefault(attack.door, Counter())
                row.update(inputs=1, refused=answer.status == 2, answered=answer.status == 0, failed=answer.status == 1)
                row["seconds"] = max(row["seconds"], round(answer.seconds * 10))
                row["growth"] = max(row["growth"], answer.growth >> 20)
                row.update(fallen=bool(answer.wrong))
                if answer.wrong:
                    fallen.append((attack, answer))
                if answer.wrong or options.verbose:
                    what = f"{answer.wrong or answer.status} | {attack.door}: {attack.what}"
                    print(f"{what} | {said_of(attack.command, 300)} | {answer.err[-300:]!a}", flush=True)
                if (done := sum(row["inputs"] for row in rows.values())) % 100 == 0:
                    print(f"{done:,} inputs, {len(fallen)} fallen", file=sys.stderr, flush=True)
                    record(options.record, rows, fallen, len(every))
    total = sum(row["inputs"] for row in rows.values())
    print(f"{total} inputs, {len(fallen)} fallen")
    record(options.record, rows, fallen, len(every))
    if fallen:
        raise SystemExit(1)


def record(path: Path | None, rows: dict[str, Counter[str]], fallen: list[tuple[Attack, Answer]], every: int) -> None:
    """Writes what is known so far, where it is wanted."""
    if path is not None:
        path.write_text(report(rows, fallen, every), encoding="utf-8")


def report(rows: dict[str, Counter[str]], fallen: list[tuple[Attack, Answer]], every: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pyro-ppl", "numpy", "pandas", "pillow"))
    columns = ("inputs", "answered", "refused", "failed", "fallen")
    total: Counter[str] = Counter()
    for row in rows.values():
        total.update({name: row[name] for name in columns})
        total["seconds"], total["growth"] = max(total["seconds"], row["seconds"]), max(total["growth"], row["growth"])
    lines = "\n".join(
        f"| {door} | {' | '.join(f'{row[name]:,}' for name in columns)} | {row['seconds'] / 10} | {row['growth']} |"
        for door, row in [*sorted(rows.items()), ("**all**", total)]
    )
    kinds = "\n".join(f"- {answer.wrong}: {attack.door}, {attack.what}" for attack, answer in fallen) or "None."
    return f"""# Attacked

Inputs that nobody should send, to all commands and readers: files that were changed at random, files that promise more
than they hold, hold code, are pipes, devices or links out of their folder, settings of all sizes, names that no
terminal should see. *Answered* ended with status 0, *refused* with 2 and one line, *failed* with 1 and one line.
*Fallen* is what must not be: a traceback, a hang of more than {SECONDS} seconds of work, growth beyond 1 GiB, code
that was run, a file changed outside of the folder, a file left behind in `TMPDIR`, control characters on standard
output, more than one line of why. *Seconds* of work and *MiB* are the most that one input took.
Here are {total["inputs"]:,} of {every:,} inputs.

| door | inputs | answered | refused | failed | fallen | seconds | MiB |
|---|---|---|---|---|---|---|---|
{lines}

Fallen:

{kinds}

`python tests/attack.py`: Python {platform.python_version()}, {versions}, on a CPU.
"""


if __name__ == "__main__":
    main()

"""Does mixed work for as long as is asked, in one process and in others that it kills, and looks at what stays behind.

    python tests/long_run.py --minutes 120 --record docs/results/long-run.md

It is no part of `make test`. One process trains, evaluates, compares, analyzes, draws, encodes and resumes again and
again; between these, other processes are killed, find a full disk, a clock that jumps, or a folder that version 0.1
has written. Memory, open files, threads, and files that should not be there are counted as it goes on. What is new
joins the table `WORK`.
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
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from urllib.request import urlopen

from soak import make_data, start

from pyro_vae.cli import main as pyro_vae_main
from pyro_vae.run.folder import read_checkpoint, read_metrics

OLD = Path(__file__).parent / "run" / "old" / "0.1"
TINY = ("--hidden", "8", "--no-figures", "--compile", "off", "--checkpoint-every", "0")
SHORT = ("--limit", "5", "--particles", "5")


def call(*command: object) -> int:
    """A command in this process."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            pyro_vae_main([str(word) for word in command])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def train(home: Path, *more: object) -> int:
    return call("train", *TINY, "--samples", "2000", "--out", "run", "--overwrite", *more)


def resume(home: Path) -> int:
    return call(
        "train", "--resume", "--out", "run", "--samples", read_metrics(Path("run"))[-1][0] + 1000, "--no-figures"
    )


def killed(home: Path) -> int:
    """A process is killed at any moment; what it leaves goes on."""
    process = start(["train", *TINY, "--samples", "1e9", "--out", "killed", "--overwrite"], fresh=False)
    time.sleep(random.uniform(0.2, 2.0))
    os.kill(process.pid or 0, random.choice((signal.SIGKILL, signal.SIGTERM)))
    process.join()
    if not Path("killed", "checkpoint.pt").exists():
        return 0
    import torch

    samples = read_checkpoint(Path("killed"), torch.device("cpu"))["clock"]["samples"]
    return call("train", "--resume", "--out", "killed", "--samples", samples + 500, "--no-figures")


def explored(home: Path) -> int:
    """The explorer's server gives its page to who has the address, and ends when it is told to."""
    log = Path("log")
    log.unlink(missing_ok=True)
    process = start(["explore", "base", "--limit", "20"], fresh=False)
    status = 0
    try:
        while process.is_alive() and not (said := log.read_text(encoding="utf-8") if log.exists() else "").endswith(
            "/\n"
        ):
            time.sleep(0.1)
        if process.is_alive():
            with urlopen(said.split()[-1], timeout=60) as answer:
                status = answer.status
    finally:
        os.kill(process.pid or 0, signal.SIGTERM)  # Ctrl-C means nothing to what runs in the background
        process.join()
    return 0 if status == 200 else 1


def swept(home: Path) -> int:
    """A grid of one run, by processes of its own; and once more, where there is nothing left to do."""
    shutil.rmtree("swept", ignore_errors=True)
    given = ("sweep", "--hidden", "8", "--samples", "1000", "--compile", "off", "--limit", "5", "--jobs", "1")
    first, again = (call(*given, "--grid", "latent=2", "--out", "swept") for _ in range(2))
    return first or again


def apart(work: Callable[[], int]) -> int:
    """Work in a process of its own, whose limits and clocks are spoilt."""
    process = os.fork()
    if not process:
        status = 70
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def full_disk(home: Path) -> int:
    """No file can be longer than a few kilobytes: training stops with 1, and what was there before goes on."""

    def work() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return call("train", "--resume", "--out", "run", "--samples", read_metrics(Path("run"))[-1][0] + 500)

    return 0 if apart(work) == 1 and resume(home) == 0 else 1


def clock_jumps(home: Path) -> int:
    """The clock of the day jumps by years while a run trains."""

    def work() -> int:
        usual = time.time
        time.time = lambda: usual() + random.uniform(-1e9, 1e9)
        return train(home)

    return apart(work)


def old_folder(home: Path) -> int:
    """A folder of version 0.1 is evaluated and goes on."""
    kind = random.choice(["aevb", "mcem"])
    shutil.rmtree("old", ignore_errors=True)
    shutil.copytree(OLD / kind, "old")
    samples = read_metrics(Path("old"))[-1][0] + 500
    more = call("train", "--resume", "--out", "old", "--samples", samples, "--no-figures")
    return call("evaluate", "old", *SHORT) or more


WORK: dict[str, tuple[Callable[[Path], int], int]] = {
    "train": (train, 0),
    "train, mapped": (lambda home: train(home, "--data", "mapped.npy"), 0),
    "train, missing cells": (lambda home: train(home, "--data", "missing.csv", "--model", "normal"), 0),
    "train, mcem": (lambda home: train(home, "--inference", "mcem", "--train-size", "10"), 0),
    "train, wake_sleep": (lambda home: train(home, "--inference", "wake_sleep"), 0),
    "resume": (resume, 0),
    "evaluate": (lambda home: call("evaluate", "base", *SHORT), 0),
    "compare": (lambda home: call("compare", "base", "base", *SHORT), 0),
    "analyze": (lambda home: call("analyze", "base", "--quick", "--limit", "3", "--draws", "4", "--warmup", "2"), 0),
    "sample": (lambda home: call("sample", "base", "--number", "9"), 0),
    "manifold": (lambda home: call("manifold", "base", "--grid", "3"), 0),
    "explore, a page": (lambda home: call("explore", "base", "--html", "page.html", "--limit", "20"), 0),
    "explore, a server": (explored, 0),
    "sweep": (swept, 0),
    "encode": (lambda home: call("encode", "base", "--out", "t.csv", "--particles", "3"), 0),
    "wrong input": (lambda home: call("train", "--latent", "x"), 2),
    "killed and resumed": (killed, 0),
    "a full disk": (full_disk, 0),
    "a clock that jumps": (clock_jumps, 0),
    "a folder of 0.1": (old_folder, 0),
}


def held() -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "MiB": pages * os.sysconf("SC_PAGE_SIZE") >> 20,
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="a Markdown file for the results")
    options = parser.parse_args()
    record = options.record and options.record.absolute()
    os.environ.setdefault("MPLBACKEND", "agg")
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    random.seed(options.seed)
    done: Counter[str] = Counter()
    wrong: list[str] = []
    rows: list[dict[str, int]] = []
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="long-") as name:
        home = Path(name)
        os.chdir(home)
        os.environ["TMPDIR"] = str(home / "tmp")
        tempfile.tempdir = None
        (home / "tmp").mkdir()
        make_data(home)
        assert call("train", *TINY, "--samples", "20000", "--out", "base") == 0
        for work, _ in WORK.values():  # what is loaded once is no growth
            work(home)
        began = time.monotonic()
        next_look = 0.0
        while (spent := (time.monotonic() - began) / 60) < options.minutes:
            if spent >= next_look:
                rows.append({"minute": round(spent), "commands": done.total(), **held()})
                print(rows[-1], flush=True)
                next_look += options.minutes / 12
            what = random.choice(list(WORK))
            work, expected = WORK[what]
            status = work(home)
            done[what] += 1
            if status != expected:
                wrong.append(f"{what}: {status}")
                print(wrong[-1], flush=True)
        rows.append({"minute": round((time.monotonic() - began) / 60), "commands": done.total(), **held()})
        # What a killed process leaves half-written, the next one in its folder removes.
        call("train", *TINY, "--samples", "500", "--out", "killed", "--overwrite")
        left = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and path.name.startswith(".")]
        left = [path for path in left if not path.endswith(".lock")] + [
            f"tmp/{p.name}" for p in (home / "tmp").iterdir() if not p.name.startswith("torchinductor_")
        ]
        os.chdir(here)
    first, last = rows[min(1, len(rows) - 1)], rows[-1]
    print(f"{done.total()} commands, {len(wrong)} wrong, left behind: {', '.join(left) or 'nothing'}")
    if record:
        record.write_text(report(rows, done, wrong, left, f"--minutes {options.minutes:g}"), encoding="utf-8")
    if wrong or left or last["open files"] > first["open files"] + 5:
        sys.exit(1)


def report(rows: list[dict[str, int]], done: Counter[str], wrong: list[str], left: list[str], given: str) -> str:
    def line(values: list[object]) -> str:
        return f"| {' | '.join(map(str, values))} |"

    table = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return f"""# A long run

One process that did {done.total():,} pieces of work in any order, with others that were killed, found a full disk, a
clock that jumped by years, or a folder of version 0.1; and what it held as it went on.

{chr(10).join(line(row) for row in table)}

{", ".join(f"{what} {count}" for what, count in sorted(done.items()))}.

Answers that were not as they should be: {", ".join(wrong) or "none"}. Files left behind: {", ".join(left) or "none"}.

`python tests/long_run.py {given}`: Python {platform.python_version()}, torch {version("torch")}, on a CPU.
"""


if __name__ == "__main__":
    main()

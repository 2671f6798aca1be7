"""The command line, `pyro-vae`: one file a group of commands.

Results go to standard output, progress and errors to standard error. Nothing above the commands' own bodies imports
torch, so that help and wrong input are answered at once.
"""

__all__ = ["keep_freed_memory", "main"]

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from pyro_vae import __version__
from pyro_vae.cli import analyze, check, data, encode, evaluate, explore, paper, pictures, preview, sweep, train
from pyro_vae.cli.outputs import Lost, outputs
from pyro_vae.errors import InputError, Interrupted, RunError, reason
from pyro_vae.run.settings import MEANT

# Of a message. The thing is named at its beginning, the mend at its end.
_LONGEST, _END = 1000, 300
# 128 and SIGPIPE, which Windows lacks.
_UNREAD = 141
# By their numbers in glibc's malloc.h: from so many bytes on, what is free at the heap's end goes back to the system,
# and blocks are mapped apart.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = (-1, 2**28), (-3, 2**25)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def _pyro_vae(context: click.Context) -> None:
    """Auto-Encoding Variational Bayes (Kingma & Welling, 2014) in Pyro."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    train.train,
    evaluate.evaluate,
    evaluate.compare,
    preview.preview,
    analyze.analyze,
    pictures.sample,
    pictures.reconstruct,
    pictures.analogies,
    pictures.manifold,
    check.check,
    explore.explore,
    pictures.latent,
    pictures.traverse,
    pictures.interpolate,
    data.data,
    data.parts,
    data.cite,
    encode.encode,
    encode.impute,
    sweep.sweep,
    paper.paper,
):
    _pyro_vae.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0, 1 a run failed, 2 wrong input, 128 + signal interrupted."""
    keep_freed_memory()
    try:
        with outputs():
            _called(arguments)
    except Lost as error:
        if error.unread:  # as a shell names the end of who is not read any more
            sys.exit(_UNREAD)
        with outputs():
            _fail(str(error), 1)


def keep_freed_memory() -> None:
    """Has glibc keep what is freed: it would give back the megabytes of a chunk, and fetch them anew for the next."""
    with suppress(AttributeError, OSError, TypeError):  # it is no glibc
        for limit in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(*limit)


def _called(arguments: Sequence[str] | None) -> None:
    try:
        _pyro_vae.main(arguments, prog_name="pyro-vae", standalone_mode=False)
    except click.NoSuchOption as error:
        meant = MEANT.get(error.option_name.lstrip("-").replace("-", "_"))
        _fail(f"no option {error.option_name}: give {meant}" if meant else error.format_message(), 2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except InputError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except SystemExit as error:  # we have none of our own in there
        _fail(f"a part of the run ends the process: {reason(error)}", 2)
    except OSError as error:  # no permission, a full disk, a working folder that is gone
        nothing = "the working folder" if isinstance(error, FileNotFoundError) else "output"
        _fail(f"{error.filename or nothing}: {error.strerror or error}", 2)
    except Interrupted as error:
        _fail("interrupted: continue with --resume", 128 + error.signal)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)


def _fail(message: str, status: int) -> None:
    if status != 1 and _among_others():
        sys.exit(status)  # the first of torchrun's processes says it
    # Pyro adds a table of shapes to what passes through it, which is no line.
    line = " ".join(message.partition("Trace Shapes:")[0].split())
    if len(line) > _LONGEST:  # some values are a file's
        line = f"{line[: _LONGEST - _END]} ... {line[-_END:]}"
    # A name in a folder from elsewhere may hold what moves a terminal's cursor.
    click.echo(f"pyro-vae: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)
    sys.exit(status)


def _among_others() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"

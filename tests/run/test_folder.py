"""The files of a run folder: whole after whatever happens, and read as data only."""

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from pyro_vae.errors import InputError, RunError
from pyro_vae.run import folder

CPU = torch.device("cpu")


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: [calls.append("renamed"), replace(self, target)])
    folder.replace_file(tmp_path / "a", lambda path: path.write_text("new"))
    beside = tmp_path / f".a.{os.getpid()}"
    assert calls == [beside, "renamed", tmp_path]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@contextmanager
def no_file_longer_than(size):
    """Every write beyond so many bytes fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("file", ["run.toml", "metrics.csv", "weights.safetensors", "checkpoint.pt"])
def test_a_failing_write_leaves_the_old_file(tmp_path, file):
    def write(value):
        {
            "run.toml": lambda: folder.write_record(tmp_path, {"format": 1, "text": str(value) * 5000}),
            "metrics.csv": lambda: folder.write_metrics(tmp_path, [[value, 0.0, 0.0, 0.0]] * 500),
            "weights.safetensors": lambda: folder.write_weights(tmp_path, {"model": nn.Linear(50, 50)}),
            "checkpoint.pt": lambda: folder.write_checkpoint(tmp_path, {"x": torch.full((2000,), value)}),
        }[file]()

    write(1)
    before = (tmp_path / file).read_bytes()
    with (
        no_file_longer_than(4000),
        pytest.raises(RunError, match=rf"{tmp_path}/{file} cannot be written \({os.strerror(errno.EFBIG)}\): the old"),
    ):
        write(2)
    assert (tmp_path / file).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 400 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_leaves_the_old_checkpoint(cli, small_disk):
    run, options = small_disk / "run", ("--hidden", "5")
    assert cli("train", *options, "--samples", "2000", "--out", run).status == 0
    before = folder.read_checkpoint(run, CPU)
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    result = cli("train", "--resume", "--out", run, "--samples", "4000")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith(f"pyro-vae: {run}/")
    assert "cannot be written (No space left on device): the old file is unchanged" in result.err
    assert folder.read_checkpoint(run, CPU)["clock"] == before["clock"]
    filler.unlink()
    assert cli("train", "--resume", "--out", run, "--samples", "4000").status == 0


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_names_the_file(cli):
    assert cli("train", "--hidden", "20", "--samples", "2000", "--out", "run").status == 0
    before = Path("run/checkpoint.pt").read_bytes()
    weights = len(Path("run/weights.safetensors").read_bytes())
    assert weights < 30_000 < len(before)
    with no_file_longer_than(30_000):
        result = cli("train", "--resume", "--out", "run", "--samples", "4000")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("pyro-vae: run/checkpoint.pt cannot be written")
    assert Path("run/checkpoint.pt").read_bytes() == before
    assert cli("train", "--resume", "--out", "run", "--samples", "4000").status == 0


class Hostile:
    """Creates a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_hostile_checkpoint_does_not_execute(tmp_path, form):
    proof, path = tmp_path / "executed", tmp_path / "checkpoint.pt"
    state = {"format": folder.FORMAT, "model": Hostile(proof)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError, match=f"{path} cannot be read") as refusal:
        folder.read_checkpoint(tmp_path, CPU)
    assert not proof.exists()
    assert "\n" not in str(refusal.value)
    # It would have executed, had it been read in another way.
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert proof.exists()


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("checkpoint/data/0", bytes(10**7))
    with pytest.raises(InputError, match="its parts are larger than the file"):
        folder.read_checkpoint(tmp_path, CPU)


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    torch.save({"format": 0}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt is not a checkpoint of format 1: retrain the run"):
        folder.read_checkpoint(tmp_path, CPU)


def test_a_run_of_another_format_is_refused_and_not_touched(cli):
    Path("run").mkdir()
    Path("run/run.toml").write_text("format = 0\n[settings]\nlatent = 2\n")
    for command in (("evaluate", "run"), ("train", "--resume", "--out", "run"), ("train", "--out", "run")):
        result = cli(*command)
        assert result.status == 2
        assert result.err.count("\n") == 1
    assert "run/run.toml has format 0, not 1: train the run anew" in cli("evaluate", "run").err
    assert [path.name for path in Path("run").iterdir()] == ["run.toml"]
    # It is a run folder, so that it may be replaced.
    assert cli("train", "--samples", "100", "--hidden", "5", "--out", "run", "--overwrite").status == 0


@pytest.mark.parametrize("read", [folder.read_record, folder.read_metrics, lambda p: folder.read_checkpoint(p, CPU)])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path, read):
    for name in folder.FILES:
        os.mkfifo(tmp_path / name)
    with pytest.raises(InputError):
        read(tmp_path)
    with pytest.raises(InputError, match="it is no regular file"):
        folder.read_weights(tmp_path, {})


def test_an_endless_text_is_refused(tmp_path):
    with (tmp_path / "metrics.csv").open("wb") as file:
        file.truncate(2**40)  # a file with a hole, a TiB of zeros
    with pytest.raises(InputError, match=r"metrics.csv cannot be read: it is longer than 16 MiB"):
        folder.read_metrics(tmp_path)


def test_what_lies_in_the_way_of_a_file_that_is_written_is_no_link_that_is_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / f".a.{os.getpid()}").symlink_to(other)
    folder.replace_file(tmp_path / "a", lambda path: path.write_text("ours"))
    assert ((tmp_path / "a").read_text(), other.read_text()) == ("ours", "theirs")
    assert not (tmp_path / "a").is_symlink()


def test_overwriting_wants_a_run_folder(cli):
    Path("other").mkdir()
    for content in ("", "[project]\nname = 'mine'", "format = ", "\xff"):
        Path("other/run.toml").write_text(content)
        result = cli("train", "--samples", "100", "--hidden", "5", "--out", "other", "--overwrite")
        assert result.status == 2
        assert "other is not empty and not a run folder: choose another --out" in result.err
        assert Path("other/run.toml").read_text() == content
    assert [path.name for path in Path("other").iterdir()] == ["run.toml"]


def test_overwriting_removes_copies_but_nothing_else_beside_them(tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine"
    (run / "parts").mkdir(parents=True)
    for name in ("checkpoint.pt", "parts/model.py", "parts/notes.py"):
        (run / name).touch()
    folder.create(run)
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*")) == ["parts", "parts/notes.py"]
    (run / "parts" / "notes.py").unlink()
    folder.create(run)
    assert list(run.iterdir()) == []
    # A link in a folder from elsewhere leads nowhere.
    mine.mkdir()
    (mine / "model.py").touch()
    (run / "parts").symlink_to(mine)
    folder.create(run)
    assert list(run.iterdir()) == []
    assert (mine / "model.py").exists()


def test_overwriting_removes_what_a_copy_has_imported(tmp_path):
    """The next copy would take it for its own."""
    run, mine = tmp_path / "run", tmp_path / "mine"
    mine.mkdir()
    (mine / "blocks.py").touch()
    for name in ("model/blocks.py", "model/helpers/nets.py", "model/helpers/notes.txt", "guide/blocks.py"):
        (run / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "parts" / name).touch()
    (run / "parts/model/linked").symlink_to(mine)
    (run / "parts/prior").symlink_to(mine)
    folder.create(run)
    left = [path.relative_to(run).as_posix() for path in run.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert left == ["parts/model/helpers/notes.txt"]
    assert (mine / "blocks.py").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in (".checkpoint.pt.4242", ".run.toml.7", ".mine.7", ".checkpoint.pt.old", "checkpoint.pt"):
        (tmp_path / name).touch()
    folder.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".checkpoint.pt.old", ".mine.7", "checkpoint.pt"]


def test_a_folder_in_which_a_run_was_killed_at_once_is_free(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".run.toml.4242").touch()
    folder.require_free(run, overwrite=False)
    (run / "mine").touch()
    with pytest.raises(InputError, match="is not empty and not a run folder"):
        folder.require_free(run, overwrite=False)


@pytest.fixture
def unprivileged(tmp_path, monkeypatch):
    """A folder and a user who is not its master, as root may write everywhere."""
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):  # with xdist, there is a folder of its worker in between
        if parent != Path(tempfile.gettempdir()):
            parent.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    if os.geteuid() != 0:
        yield lambda: None
        return
    yield lambda: os.seteuid(65534)
    os.seteuid(0)


def test_a_folder_without_permission_is_named_and_left_alone(cli, unprivileged):
    assert cli("train", "--samples", "200", "--hidden", "5", "--out", "run").status == 0
    reading = ("evaluate", "run", "--limit", "3", "--particles", "30", "--json")
    assert cli(*reading).status == 0  # the libraries may lie where only root can read them
    Path("read-only").mkdir()
    Path("secret").mkdir()
    for name, mode in (("read-only", 0o555), ("secret", 0), ("run", 0o555)):
        Path(name).chmod(mode)
    unprivileged()
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    for out, options in (("read-only/run", ()), ("secret/run", ()), ("run", ("--resume",)), ("run", ("--overwrite",))):
        result = cli("train", "--samples", "200", "--hidden", "5", "--out", out, *options)
        assert result.status == 2
        assert out.partition("/")[0] in result.err
        assert "ermission" in result.err
        assert result.err.count("\n") == 1
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before
    # Reading takes no more than reading.
    assert cli(*reading).status == 0
    result = cli("sample", "run")
    assert result.status == 1
    assert "run/samples.png cannot be written (Permission denied)" in result.err


def test_a_checkpoint_is_missing(cli):
    assert cli("train", "--samples", "200", "--hidden", "5", "--out", "run").status == 0
    Path("run/checkpoint.pt").unlink()
    result = cli("train", "--resume", "--out", "run")
    assert result.status == 2
    assert result.err == "pyro-vae: run/checkpoint.pt is missing: retrain the run with --overwrite\n"


def test_a_killed_writer_leaves_the_old_checkpoint(tmp_path):
    """In the middle of a write, in a process of its own."""
    folder.write_checkpoint(tmp_path, {"x": 1})
    code = (
        "import os, signal, sys; from pathlib import Path; from pyro_vae.run import folder\n"
        "def write(path):\n    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder.replace_file(Path(sys.argv[1]), write)"
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "checkpoint.pt"], check=False)
    assert process.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".checkpoint.pt.*")
    assert left.read_bytes() == b"half"
    assert folder.read_checkpoint(tmp_path, CPU)["x"] == 1
    folder.sweep(tmp_path)
    assert not left.exists()

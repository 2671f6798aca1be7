"""Whatever a file or an argument holds, the answer is a value or an `InputError` of one line."""

import hashlib
import io
import random
import resource
import struct
import tomllib
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import tomli_w
import torch
from attacks.bench import mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from torch import nn

from pyro_vae.cli import main
from pyro_vae.data import sources
from pyro_vae.data.loading import load_data
from pyro_vae.errors import InputError
from pyro_vae.run import folder, record, trust
from pyro_vae.run.settings import Settings, read_toml, whole

CPU = torch.device("cpu")

# --- Files: valid ones, changed at random ----------------------------------------------------------------------------


def _bytes_of(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _run_folder(path):
    """A run folder with small files of each kind."""
    path.mkdir()
    module = nn.Linear(3, 2)
    entry = {"settings": Settings().table(), "data": {"checksum": "0", "folder": "."}}
    folder.write_record(path, {"format": folder.FORMAT, **entry})
    folder.write_metrics(path, [[0, 0.0, -3.5, -3.25], [100, 0.5, -2.5, -2.25]])
    folder.write_weights(path, {"model": module})
    folder.write_checkpoint(path, {"model": module.state_dict(), "clock": {"samples": 100, "seconds": 0.5}})
    return module


VALUES = np.random.default_rng(0).integers(0, 256, (12, 6), dtype=np.uint8)
SEEDS = {
    "x.npy": [
        _bytes_of(lambda file: np.save(file, VALUES)),
        _bytes_of(lambda file: np.save(file, np.asfortranarray(VALUES / 256))),
    ],
    "x.npz": [
        _bytes_of(lambda file: np.savez(file, train=VALUES, test=VALUES)),
        _bytes_of(lambda file: np.savez_compressed(file, train=VALUES / 256, test=VALUES / 256)),
    ],
}


def _attempt(read):
    """Whether a reader refuses, which it may do in one line only."""
    try:
        read()
    except InputError as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017, any other error is the failure
        return True
    return False


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning", "ignore:Duplicate name:UserWarning")
def test_changed_arrays_are_read_or_refused(tmp_path, name):
    draw, path, refused = random.Random(1), tmp_path / name, 0
    before = _peak()
    for n in range(2000):
        path.write_bytes(mutated(SEEDS[name][n % 2], draw))
        refused += _attempt(lambda: load_data(str(path)))
    assert 1000 < refused < 2000  # some changes are none, or make other data
    assert _peak() - before < 100  # MiB


@pytest.mark.parametrize("name", [*folder.FILES])
def test_changed_run_folders_are_read_or_refused(tmp_path, name):
    run = tmp_path / "run"
    module = _run_folder(run)
    path = run / name
    content = path.read_bytes()

    def read_record():
        written = folder.read_record(run)
        config = record.resumed(written, {})
        trust.require(run, config, trust=False)
        record.used_data_dir(config, written)
        read_toml(path)

    read = {
        "run.toml": read_record,
        "metrics.csv": lambda: folder.read_metrics(run),
        "weights.safetensors": lambda: folder.read_weights(run, {"model": module}),
        "checkpoint.pt": lambda: folder.read_checkpoint(run, CPU),
    }[name]
    draw, refused = random.Random(2), 0
    before = _peak()
    for _ in range(1500):
        path.write_bytes(mutated(content, draw))
        refused += _attempt(read)
        folder._holds_run(run)
    assert 500 < refused < 1500
    assert _peak() - before < 100


@pytest.mark.parametrize("name", ["mnist", "frey"])
def test_changed_files_of_known_data_are_refused(tmp_path, monkeypatch, name):
    """The readers of idx and mat see nothing but files whose checksum is right."""
    if name == "mnist":
        table, home, first = "_MNIST", tmp_path / "MNIST" / "raw", "train-images-idx3-ubyte"
        images = struct.pack(">4i", 2051, 20, 28, 28) + bytes(20 * 784)
        labels = struct.pack(">2i", 2049, 20) + bytes(20)
        files = {file: images if "images" in file else labels for file in sources._MNIST}
    else:
        table, home, first = "_FREY", tmp_path / "FreyFace", "frey_rawface.mat"
        faces = np.zeros((560, 1965), dtype=np.uint8)
        files = {first: _bytes_of(lambda file: savemat(file, {"ff": faces}, do_compression=True))}
    monkeypatch.setattr(sources, table, {file: hashlib.sha256(content).hexdigest() for file, content in files.items()})
    home.mkdir(parents=True)
    for file, content in files.items():
        (home / file).write_bytes(content)
    load_data(name, folder=tmp_path)
    draw = random.Random(3)
    for _ in range(600):
        changed = mutated(files[first], draw)
        (home / first).write_bytes(changed)
        assert _attempt(lambda: load_data(name, folder=tmp_path)) or changed == files[first]


# --- Values: anything that a file or a shell can say -----------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBERS = st.integers() | st.floats() | st.from_regex(r"-?\d{1,4}(\.\d*)?(e-?\d{1,4})?", fullmatch=True)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT | st.dates() | st.datetimes()
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAMES = st.sampled_from(list(Settings.__dataclass_fields__)) | TEXT
often = settings(deadline=None, derandomize=True, database=None, max_examples=300)


@often
@given(st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_settings_are_refused_or_kept(values):
    try:
        made = Settings.of(values)
    except InputError:
        return
    # What is accepted is kept by a file of settings; dates and such in `set` are the part's own affair.
    kept = Settings.of({**made.table(), "set": {}})
    assert kept == Settings.of({**values, "set": {}})


@often
@given(ANYTHING, st.integers(0, 5), st.integers(6, 100))
def test_a_whole_number_is_whole_and_inside_or_refused(value, least, most):
    try:
        number = whole("particles", value, least, most)
    except InputError:
        return
    assert isinstance(number, int)
    assert least <= number <= most
    assert number == float(value)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@often
@given(st.lists(st.tuples(st.integers(0, 10**12), st.floats(0, 1e9), FINITE, FINITE), min_size=1, max_size=5))
def test_metrics_are_read_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "metrics"
    path.mkdir(exist_ok=True)
    folder.write_metrics(path, rows)
    assert folder.read_metrics(path) == [list(row) for row in rows]


@often
@given(TEXT | st.binary(max_size=60))
def test_any_text_is_metrics_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "text"
    path.mkdir(exist_ok=True)
    for name in ("metrics.csv", "run.toml"):
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    _attempt(lambda: folder.read_metrics(path))
    assert _attempt(lambda: folder.read_record(path))
    _attempt(lambda: Settings.of(read_toml(path / "run.toml")))


RECORD = {"format": folder.FORMAT, "settings": Settings().table(), "data": {"checksum": "0", "folder": "."}}
TABLES = st.dictionaries(TEXT, ANYTHING, max_size=3)


@often
@given(st.sampled_from(["format", "settings", "data"]), NAMES, ANYTHING | TABLES)
def test_any_value_in_a_runs_record_is_taken_or_refused(tmp_path_factory, part, name, value):
    path = tmp_path_factory.getbasetemp() / "record"
    path.mkdir(exist_ok=True)
    changed = {**RECORD, part: {**RECORD[part], name: value} if isinstance(RECORD[part], dict) else value}
    try:
        text = tomli_w.dumps(changed)
        tomllib.loads(text)
    except (TypeError, ValueError):  # TOML has no word for None, nor tomllib an ear for every number
        return
    (path / "run.toml").write_text(text, encoding="utf-8")

    def use():
        written = folder.read_record(path)
        config = record.resumed(written, {})
        trust.require(path, config, trust=False)
        record.used_data_dir(config, written)

    _attempt(use)


def _called(arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, out.getvalue(), err.getvalue()


ARGUMENT = st.text(st.characters(exclude_characters="\0"), max_size=12)  # with the bytes that are no UTF-8
OPTIONS = [f"--{name.replace('_', '-')}" for name in Settings.__dataclass_fields__] + ["--config", "--set"]
REFUSED = [
    *[("train", "--resume", "--out", "missing", option) for option in OPTIONS],
    *[("evaluate", "missing", f"--{name}") for name in ("split", "particles", "limit", "seed", "marginal", "compile")],
    ("sample", "missing", "--number"),
    ("reconstruct", "missing", "--number"),
    ("manifold", "missing", "--grid"),
    *[(command, "missing", "--device") for command in ("evaluate", "sample")],
    ("train", "--data", "missing.npy", "--out"),
    ("train", "--resume", "--out"),
    ("evaluate",),
    ("paper", "figure2", "--samples", "-1", "--panels"),
    ("data", "--data-dir", "missing"),
    (),
]


@settings(often, max_examples=1000)
@given(st.sampled_from(REFUSED), ARGUMENT | NUMBERS.map(str))
def test_any_argument_is_answered_with_2_and_one_line(command, value):
    if value in ("-h", "--help", "") and len(command) < 2:
        return  # that is help
    status, out, err = _called([*command, value])
    assert status == 2, (out, err)
    assert out == ""
    assert err.startswith("pyro-vae: ")
    assert err.count("\n") == 1
    assert err[:-1].isprintable()

"""Known data sets, a user's arrays, binarisation, and what is refused."""

import gzip
import hashlib
import io
import os
import struct
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from pyro_vae.data import sources
from pyro_vae.data.loading import load_data
from pyro_vae.errors import InputError
from pyro_vae.split import Split


def test_digits_need_no_network():
    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1438, 359)  # 80 % of 1,797, rounded
    assert data.image_shape == (8, 8)
    assert data.train.values.dtype == torch.uint8
    x = data.train.first()
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)  # 17 grey levels, divided by 16


def test_mnist_is_split_as_the_author_did(real_data):
    data = load_data("mnist", folder=real_data)
    assert data.train.values.shape == (50_000, 784)
    assert data.test.values.shape == (10_000, 784)
    assert data.train.first(100).max() == 255 / 256
    assert load_data("mnist", folder=real_data, divisor=255).train.first(100).max() == 1
    # Independent Bernoulli pixels, each with its mean over the training images, score -205.8 nats a test image.
    p = data.train.first().mean(0).clamp(1e-6, 1 - 1e-6)
    x = data.test.first()
    assert (x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean().item() == pytest.approx(-205.5, abs=0.2)


def test_frey_is_split_at_random(real_data):
    data = load_data("frey", folder=real_data)
    assert (data.train.values.shape, data.test.values.shape) == ((1600, 560), (365, 560))
    assert data.image_shape == (28, 20)
    # A Gaussian per pixel, fitted by maximum likelihood, scores 577.0 nats on all faces (the paper's wake-sleep curve).
    x = torch.cat([data.train.first(), data.test.first()])
    log_prob = torch.distributions.Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1).mean()
    assert log_prob.item() == pytest.approx(577.0, abs=0.1)
    assert torch.equal(load_data("frey", folder=real_data).train.values, data.train.values)


def test_a_users_bytes_are_split(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (50, 6, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    data = load_data(str(tmp_path / "x.npy"))
    assert (len(data.train), len(data.test)) == (40, 10)
    assert data.image_shape == (6, 4)
    assert data.features == 24
    both = torch.cat([data.train.values, data.test.values]).numpy()
    assert sorted(map(bytes, both)) == sorted(map(bytes, values))  # every datapoint, once
    assert data.checksum == hashlib.sha256((tmp_path / "x.npy").read_bytes()).hexdigest()


@pytest.mark.parametrize(("features", "image_shape"), [(9, (3, 3)), (10, None)])
def test_a_users_real_values_keep_their_splits(tmp_path, features, image_shape):
    train, test = np.random.default_rng(0).random((7, features)), np.zeros((3, features))
    np.savez(tmp_path / "x.npz", train=train, test=test)
    data = load_data(str(tmp_path / "x.npz"))
    np.testing.assert_allclose(data.train.first().numpy(), train, rtol=1e-6)
    assert len(data.test) == 3
    assert data.image_shape == image_shape


def _npy(path, array):
    np.save(path / "x.npy", array)
    return path / "x.npy"


def _npz(path, **arrays):
    np.savez(path / "x.npz", **arrays)
    return path / "x.npz"


def _cut(path):
    file = _npy(path, np.full((100, 4), 200, np.uint8))
    file.write_bytes(file.read_bytes()[:300])
    return file


def _promising(path, rows, name="x.npy"):
    """A header that promises so many rows of eight, and three of them."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (rows, 8)})
    content = buffer.getvalue() + bytes(range(24))
    if name == "x.npy":
        (path / name).write_bytes(content)
    else:
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("train.npy", content)
            archive.writestr("test.npy", content)
    return path / name


def _lying(path):
    """An archive whose directory, too, promises 2^31 bytes; nothing of this size can be packed so small."""
    file = _promising(path, 2**28, "x.npz")
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("train.npy").file_size
    true, false = struct.pack("<II", size, size), struct.pack("<II", size, 2**32 - 2)
    assert file.read_bytes().count(true) == 4  # two files, each named twice
    file.write_bytes(file.read_bytes().replace(true, false))
    return file


def _packed(path, compression):
    with zipfile.ZipFile(path / "x.npz", "w", compression) as archive:
        for name in ("train.npy", "test.npy"):
            archive.writestr(name, b"")
    return path / "x.npz"


def _pipe(path):
    os.mkfifo(path / "x.npy")
    return path / "x.npy"


def test_a_promise_that_is_kept_is_read(tmp_path):
    for name in ("x.npy", "x.npz"):
        assert load_data(str(_promising(tmp_path, 3, name))).features == 8


def _text(path, name):
    (path / name).write_text("no array")
    return path / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "x.npy", "x.npy cannot be read as a NumPy array: No such file"),
        (_cut, "cannot be read as a NumPy array"),
        (lambda p: _text(p, "x.npy"), "cannot be read as a NumPy array"),
        (lambda p: _text(p, "x.npz"), "cannot be read as a NumPy array"),
        (lambda p: _npy(p, np.array([{}, {}], dtype=object)), "cannot be read as a NumPy array"),
        (
            lambda p: _npy(p, np.full((9, 4), np.nan)),
            "has no value in column 1 of its training split: leave the column",
        ),
        (lambda p: _npy(p, np.full((9, 4), np.inf)), "has the value inf in row 1, column 1: give finite ones"),
        (lambda p: _npy(p, np.full((9, 4), 1e300)), r"has the value 1e\+300 in row 1, column 1: give finite ones that"),
        (lambda p: _npy(p, np.full((9, 4), 2**25)), "has the value 33554432 in row 1, column 1: float32 does not hold"),
        (lambda p: _npy(p, np.zeros((9, 4), "M8[s]")), "has values of type datetime64"),
        (
            lambda p: _npy(p, np.ones((9, 4), np.uint8)),
            "bytes of 0 and 1 only, which are divided by 256: store it as bool",
        ),
        (lambda p: _npy(p, np.zeros((9, 4), np.complex64)), "has values of type complex64"),
        (lambda p: _npy(p, np.zeros(9)), r"has shape \(9,\)"),
        (lambda p: _npy(p, np.zeros((9, 2, 2, 2))), r"has shape \(9, 2, 2, 2\), and its channels may be first or last"),
        (lambda p: _npy(p, np.zeros((0, 4))), r"has shape \(0, 4\)"),
        (lambda p: _npy(p, np.zeros((1, 4))), "has 1 datapoints"),
        (lambda p: _promising(p, 10**12), r"its header promises uint8 values of shape \(1000000000000, 8\), more than"),
        (lambda p: _promising(p, 4), r"its header promises uint8 values of shape \(4, 8\), more than the file holds"),
        (lambda p: _promising(p, 10**12, "x.npz"), r"its header promises uint8 values of shape \(1000000000000, 8\)"),
        (_lying, r"its header promises uint8 values of shape \(268435456, 8\), more than the file holds"),
        (lambda p: _packed(p, zipfile.ZIP_LZMA), "it is compressed in another way"),
        (_pipe, "it is no regular file"),
        (lambda p: _npz(p, train=np.zeros((9, 4))), "needs the arrays train and test, or x, it has"),
        (lambda p: _npz(p, train=np.zeros((9, 4)), test=np.zeros((9, 5))), "train and test of different kinds"),
        (lambda p: _npz(p, train=np.zeros((9, 4)), test=np.full((9, 4), 9, np.uint8)), "of different kinds"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as refusal:
        load_data(str(make(tmp_path)))
    assert "\n" not in str(refusal.value)


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(InputError, match="--data mnits is unknown: choose from digits, mnist, frey"):
        load_data("mnits")
    with pytest.raises(InputError, match="--train-size 2000 is more than the 1438 training datapoints"):
        load_data("digits", train_size=2000)
    with pytest.raises(InputError, match="--binarize hard is unknown"):
        load_data("digits", binarize="hard")


def test_train_size_takes_the_first():
    whole, part = load_data("digits"), load_data("digits", train_size=100)
    assert torch.equal(part.train.values, whole.train.values[:100])
    assert torch.equal(part.test.values, whole.test.values)


def test_threshold_and_static_are_fixed():
    grey = load_data("digits").train.first()
    assert torch.equal(load_data("digits", binarize="threshold").train.first(), (grey >= 0.5).float())
    static = load_data("digits", binarize="static").train
    assert set(static.first().unique().tolist()) == {0.0, 1.0}
    torch.manual_seed(9)  # the data do not change with the seed of a run
    assert torch.equal(load_data("digits", binarize="static").train.first(), static.first())


def test_dynamic_draws_anew_with_the_grey_value_as_probability():
    grey = load_data("digits").test.head(20)
    split = load_data("digits", binarize="dynamic").test.head(20)
    torch.manual_seed(0)
    draws = torch.stack([split.first() for _ in range(2000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    # The standard error of a mean of 2,000 coins is at most 0.0112; 1,280 of them stay within 5 of those.
    assert (draws.mean(0) - grey.first()).abs().max() < 0.056


def test_minibatches_are_drawn_with_replacement():
    split = Split(torch.arange(10, dtype=torch.uint8).unsqueeze(1), divisor=10)
    torch.manual_seed(0)
    drawn = split.minibatch(10_000)
    counts = torch.bincount((drawn * 10).round().int().flatten())
    # Each of 10 is drawn 1,000 times, with a standard deviation of sqrt(900) = 30.
    assert len(counts) == 10
    assert (counts - 1000).abs().max() < 130


def test_some_is_a_fixed_choice():
    split = Split(torch.arange(100, dtype=torch.uint8).unsqueeze(1))
    chosen = split.some(10).values.flatten().tolist()
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen) == split.some(10).values.flatten().tolist()
    assert split.some(100) is split


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A loopback server for a made-up face file."""
    served = tmp_path / "served"
    served.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=served)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setattr(sources, "_FREY_URL", f"http://127.0.0.1:{web.server_port}/frey_rawface.mat")
        yield served
        web.shutdown()


def _faces(path, monkeypatch, checksum=None):
    from scipy.io import savemat

    file = path / "frey_rawface.mat"
    savemat(file, {"ff": np.random.default_rng(0).integers(0, 256, (560, 1965), dtype=np.uint8)})
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(sources, "_FREY", {"frey_rawface.mat": checksum or found})


def test_downloads_are_checked_and_put_in_place_whole(tmp_path, server, monkeypatch):
    _faces(server, monkeypatch)
    data = load_data("frey", folder=tmp_path / "data")
    assert len(data.train) == 1600
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["FreyFace"]
    assert [p.name for p in (tmp_path / "data" / "FreyFace").iterdir()] == ["frey_rawface.mat"]


def test_a_download_with_another_checksum_is_not_kept(tmp_path, server, monkeypatch):
    _faces(server, monkeypatch, checksum="0" * 64)
    with pytest.raises(InputError, match=r"--data frey cannot be downloaded \(frey_rawface.mat came with another"):
        load_data("frey", folder=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_server_that_never_ends_is_cut_off(tmp_path, monkeypatch):
    class Endless:
        url = "https://somewhere"
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def read(self, size):
            asked.append(size)
            return bytes(size)

    asked = []
    monkeypatch.setattr(sources, "_LARGEST", 1000)
    monkeypatch.setattr(sources, "urlopen", lambda url, timeout: Endless())
    with pytest.raises(InputError, match="another checksum"):
        load_data("frey", folder=tmp_path)
    assert asked == [1000]
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_never_ends_is_cut_off(tmp_path, server, monkeypatch):
    monkeypatch.setattr(sources, "_MNIST_URL", sources._FREY_URL.removesuffix("frey_rawface.mat"))
    # A thousandth of what is inside; what is taken of it is its first 20,000 bytes.
    packed = gzip.compress(bytes(10**7))
    assert len(packed) < 20_000
    for name in sources._MNIST:
        (server / f"{name}.gz").write_bytes(packed)
    monkeypatch.setattr(sources, "_LARGEST", 20_000)
    with pytest.raises(InputError, match="another checksum"):
        load_data("mnist", folder=tmp_path / "data")
    # It is the cut that was looked at.
    cut = hashlib.sha256(bytes(20_000)).hexdigest()
    monkeypatch.setattr(sources, "_MNIST", dict.fromkeys(sources._MNIST, cut))
    with pytest.raises(AssertionError):  # torchvision's, since this is no idx file
        load_data("mnist", folder=tmp_path / "data")
    assert {file.stat().st_size for file in (tmp_path / "data" / "MNIST" / "raw").iterdir()} == {20_000}


def test_downloads_stay_on_a_safe_connection(tmp_path, monkeypatch):
    assert sources._FREY_URL.startswith("https://")
    assert sources._MNIST_URL.startswith("https://")

    class Redirected(io.BytesIO):
        url = "http://elsewhere/frey_rawface.mat"

    monkeypatch.setattr(sources, "urlopen", lambda url, timeout: Redirected())
    with pytest.raises(InputError, match="leads away from a safe connection, to http://elsewhere"):
        load_data("frey", folder=tmp_path)


def test_offline_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_FREY_URL", "http://127.0.0.1:9/frey_rawface.mat")
    monkeypatch.setattr(sources, "_MNIST_URL", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match=rf"put frey_rawface.mat into {tmp_path}/FreyFace, or name the folder"):
        load_data("frey", folder=tmp_path)
    with pytest.raises(
        InputError, match=rf"put train-images-idx3-ubyte, .* into {tmp_path}/MNIST/raw, or name"
    ) as info:
        load_data("mnist", folder=tmp_path)
    assert "\n" not in str(info.value)


def test_damaged_files_are_named(tmp_path, real_data):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (real_data / "MNIST" / "raw").iterdir():
        (raw / file.name).symlink_to(file)
    cut = raw / "t10k-images-idx3-ubyte"
    cut.unlink()
    cut.write_bytes((real_data / "MNIST" / "raw" / cut.name).read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{cut} is damaged, its SHA-256 begins with .* delete it"):
        load_data("mnist", folder=tmp_path)

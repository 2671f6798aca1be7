"""Data files that promise more than there is room for, and what is no file: refused before they are read."""

import io
import os
import resource
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pyro_vae import memory
from pyro_vae.data import load_data
from pyro_vae.errors import InputError

MEMORY = 50 * 10**6


@pytest.fixture
def fifty_megabytes(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: MEMORY)


def npz(path):
    """Two arrays of 40 MB of zeros in 80 kB."""
    np.savez_compressed(path, train=np.zeros((10**7, 4), np.uint8), test=np.zeros((10, 4), np.uint8))


def pt(path):
    torch.save(torch.zeros(10**7), path)


def parquet(path):
    """A million rows of eight columns of one value, 128 MB at 16 bytes a cell."""
    pytest.importorskip("pyarrow")
    pd.DataFrame({f"c{n}": np.zeros(10**6, np.float32) for n in range(8)}).to_parquet(path)


def h5ad(path):
    """A matrix of 10^10 values of which none was written."""
    anndata, h5py = pytest.importorskip("anndata"), pytest.importorskip("h5py")
    anndata.AnnData(np.ones((3, 3), np.float32)).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", (10**5, 10**5), "f4", chunks=(100, 100)).attrs.update(attributes)


def pictures(path):
    """A hundred pictures of a million pixels each, a kilobyte each."""
    path.mkdir()
    content = io.BytesIO()
    Image.new("L", (1000, 1000)).save(content, "png")
    for n in range(100):
        (path / f"{n}.png").write_bytes(content.getvalue())


def csv(path):
    """Numbers of 10 MB of text, which take several times that as they are read."""
    path.write_bytes(b"a,b\n" + b"1,2\n" * 2_500_000)


@pytest.mark.parametrize(
    ("name", "make"),
    [("x.npz", npz), ("x.pt", pt), ("x.parquet", parquet), ("x.h5ad", h5ad), ("pictures", pictures), ("x.csv", csv)],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_what_unpacks_to_more_than_there_is_is_refused_before(fifty_megabytes, tmp_path, name, make):
    make(tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"\d [MG]B, and 50 MB of memory are free") as refusal:
        load_data(str(tmp_path / name))
    assert "\n" not in str(refusal.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * MEMORY >> 10


def test_what_images_are_made_to_be_is_held_against_memory_before(fifty_megabytes, tmp_path):
    """A hundred images with colours: small of 32x16 pixels, of 256x400 they take 2 * 100 * 102,400 * 3 bytes."""
    (tmp_path / "pictures").mkdir()
    for n in range(100):
        Image.new("RGB", (100, 64)).save(tmp_path / "pictures" / f"{n}.png")
    assert load_data(str(tmp_path / "pictures"), resize="32x16").image_shape == (32, 16, 3)
    with pytest.raises(InputError, match=r"as 100 images of 256x400 pixels it takes 61.4 MB, and 50 MB of memory are"):
        load_data(str(tmp_path / "pictures"), resize="256x400")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("suffix", ["npy", "npz", "pt", "safetensors", "csv", "tsv", "parquet", "h5ad", "png"])
def test_every_reader_refuses_what_is_no_file(tmp_path, suffix, kind):
    if suffix in ("parquet", "h5ad"):
        pytest.importorskip({"parquet": "pyarrow", "h5ad": "anndata"}[suffix])
    folder = tmp_path / "pictures"
    folder.mkdir()
    path = folder / f"x.{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is no regular file"):
        load_data(str(folder if suffix == "png" else path))


def test_a_parquet_of_next_to_nothing_is_no_large_table(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("pyro_vae.data.tables._SMALL", 2**20)
    parquet(tmp_path / "x.parquet")
    for large in (2**31, 2**20):  # read at once, and by row groups
        monkeypatch.setattr("pyro_vae.data.mapped.LARGE", large)
        with pytest.raises(InputError, match=r"it promises 1,000,000 rows of 8 columns in \d+(\.\d+)? [kM]B"):
            load_data(str(tmp_path / "x.parquet"))


def test_a_usps_of_zeros_without_end_is_refused(tmp_path):
    import bz2

    packer = bz2.BZ2Compressor()
    pieces = [packer.compress(bytes(2**24)) for _ in range(17)]
    (tmp_path / "usps.bz2").write_bytes(b"".join([*pieces, packer.flush()]))
    with pytest.raises(InputError, match=r"usps.bz2: it unpacks to more than 256 MiB"):
        load_data("usps", folder=tmp_path)


def test_a_directory_that_lies_is_found_out(fifty_megabytes, tmp_path):
    """An archive whose directory promises little, and whose entry holds more: no more is read than was promised."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(10**7)) + packer.flush()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", packed)
    with pytest.raises(InputError, match="cannot be read as a NumPy array"):
        load_data(str(tmp_path / "x.npz"))


def test_what_a_library_in_c_says_of_a_picture_is_not_shown(tmp_path, capfd):
    """A compressed TIFF that is cut: libtiff writes to standard error by itself."""
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(
        content, "tiff", compression="tiff_lzw"
    )
    whole = load_data(str(_doubled(tmp_path, content.getvalue())))
    assert whole.features == 64 * 64
    cut = bytearray(content.getvalue())
    cut[1000:2000] = bytes(1000)
    (tmp_path / "twice" / "1.tif").write_bytes(cut)
    with pytest.raises(InputError, match="cannot be read as an image"):
        load_data(str(tmp_path / "twice"))
    assert capfd.readouterr().err == ""


def _doubled(path, content):
    folder = path / "twice"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n}.tif").write_bytes(content)
    return folder


def test_a_file_of_a_known_set_that_is_too_large_is_not_hashed(tmp_path):
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.parent.mkdir()
    path.touch()
    os.truncate(path, 60 << 30)  # which take no place on a disk
    with pytest.raises(InputError, match=r"data_batch_1: it is larger than any of its files, which have 4\.29 GB"):
        load_data("cifar10", folder=tmp_path)

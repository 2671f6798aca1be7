"""Small files of every kind: each trains and is scored, or is answered with exit 2 and one line."""

import json
import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from anndata import AnnData
from PIL import Image
from safetensors.torch import save_file
from scipy.sparse import csr_matrix
from torch.utils.data import TensorDataset

import pyro_vae
from pyro_vae.data import Dataset, load_data
from pyro_vae.data.loading import more_of
from pyro_vae.errors import InputError

R = np.random.default_rng(0)
REAL = R.normal(3.0, 20.0, (20, 4))
COUNTS = R.integers(0, 300, (20, 4))
GREY = R.integers(0, 256, (20, 6, 5), dtype=np.uint8)
COLOUR = R.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
HOLED = np.where(R.random(REAL.shape) < 0.3, np.nan, REAL)
LABELS = np.array(["cat", "dog"] * 10)


def _npy(array, name="x.npy"):
    return lambda: (np.save(name, array), name)[1]


def _npz(**arrays):
    return lambda: (np.savez("x.npz", **arrays), "x.npz")[1]


def _frame(**more):
    return pd.DataFrame(REAL, columns=["a", "b b", "ü", "d"]).assign(**more)


def _csv(frame, name="x.csv", **options):
    return lambda: (frame.to_csv(name, index=False, **options), name)[1]


def _text(text, name="x.csv", encoding="utf-8"):
    return lambda: (Path(name).write_text(text, encoding=encoding), name)[1]


def _parquet(frame, name="x.parquet"):
    return lambda: (frame.to_parquet(name, row_group_size=6), name)[1]


def _h5ad():
    # Counts are stored as real numbers in such files, and sparse, more often than not.
    kind = pd.DataFrame({"kind": LABELS}, index=[str(n) for n in range(20)])
    genes = pd.DataFrame(index=["g1", "g2", "g3", "g4"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's, about its own use of pandas
        AnnData(csr_matrix(COUNTS.astype(np.float32)), obs=kind, var=genes).write_h5ad("x.h5ad")
    return "x.h5ad"


def _images(array, name="pictures", labelled=False, **suffix):
    def make():
        for n, pixels in enumerate(array):
            folder = Path(name) / (LABELS[n] if labelled else "")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{n:02}.png")
        return name

    return make


def _torch(content):
    return lambda: (torch.save(content, "x.pt"), "x.pt")[1]


def _sizes():
    _images(GREY)()
    Image.fromarray(GREY[0].T).save("pictures/99.png")
    return "pictures"


def _broken_image():
    _images(GREY)()
    Path("pictures/99.png").write_bytes(b"no image")
    return "pictures"


# What is made, options, and what must be found: shape of the cells, type, image shape, training datapoints, and more.
GOOD = {
    "float64": (_npy(REAL), {}, ((16, 4), "float32", None)),
    "float16": (_npy(REAL.astype(np.float16)), {}, ((16, 4), "float32", None)),
    "big-endian": (_npy(REAL.astype(">f8")), {}, ((16, 4), "float32", None)),
    "column-major": (_npy(np.asfortranarray(REAL)), {}, ((16, 4), "float32", None)),
    "int64 counts": (_npy(COUNTS), {}, ((16, 4), "int16", None)),
    "uint16 counts": (_npy(COUNTS.astype(np.uint16)), {}, ((16, 4), "int16", None)),
    "int8": (_npy((COUNTS % 9 - 4).astype(np.int8)), {"model": "normal"}, ((16, 4), "int16", None)),
    "large counts": (_npy(COUNTS * 200), {}, ((16, 4), "int32", None)),
    "small counts": (_npy(COUNTS % 100), {}, ((16, 4), "uint8", None)),
    "booleans": (_npy(COUNTS > 100), {"model": "bernoulli"}, ((16, 4), "uint8", (2, 2))),
    "bytes": (_npy(GREY), {}, ((16, 30), "uint8", (6, 5))),
    "bytes as counts": (_npy(GREY), {"divisor": 1, "model": "poisson"}, ((16, 30), "uint8", (6, 5))),
    "colours last": (_npy(COLOUR), {}, ((16, 90), "uint8", (6, 5, 3))),
    "colours first": (_npy(COLOUR.transpose(0, 3, 1, 2)), {}, ((16, 90), "uint8", (6, 5, 3))),
    "one channel": (_npy(GREY[..., None]), {"channels": "last"}, ((16, 30), "uint8", (6, 5))),
    "square colours": (_npy(COLOUR[:, :3, :3]), {"channels": "last"}, ((16, 27), "uint8", (3, 3, 3))),
    "binarised": (_npy(GREY), {"binarize": "static"}, ((16, 30), "uint8", (6, 5))),
    "missing": (_npy(HOLED), {}, ((16, 4), "float32", None)),
    "missing, scaled": (_npy(HOLED), {"scale": "standard"}, ((16, 4), "float32", None)),
    "npz splits": (_npz(train=REAL[:13], test=REAL[13:]), {}, ((13, 4), "float32", None)),
    "npz labels": (_npz(x=GREY, labels=LABELS), {"stratify": True}, ((16, 30), "uint8", (6, 5))),
    "npz mask": (_npz(x=GREY, observed=GREY < 200), {"model": "gaussian"}, ((16, 30), "float32", (6, 5))),
    "npz groups": (_npz(x=REAL, house=np.arange(20) // 4), {"group": "house"}, ((16, 4), "float32", None)),
    "pt": (_torch(torch.from_numpy(REAL)), {}, ((16, 4), "float32", None)),
    "pt splits": (_torch({"train": torch.ones(9, 4) * 3, "test": torch.ones(4, 4)}), {}, ((9, 4), "float32", None)),
    "bfloat16": (_torch(torch.from_numpy(REAL).bfloat16()), {}, ((16, 4), "float32", None)),
    "safetensors": (
        lambda: (save_file({"x": torch.rand(20, 4)}, "x.safetensors"), "x.safetensors")[1],
        {"model": "beta"},
        ((16, 4), "float32", (2, 2)),
    ),
    "csv": (_csv(_frame()), {}, ((16, 4), "float32", None)),
    "csv without a header": (_csv(_frame(), header=False), {}, ((16, 4), "float32", None)),
    "csv with a byte-order mark": (_csv(_frame(), encoding="utf-8-sig"), {}, ((16, 4), "float32", None)),
    "tsv": (_csv(_frame(), "x.tsv", sep="\t"), {}, ((16, 4), "float32", None)),
    "csv, empty cells": (_csv(pd.DataFrame(HOLED, columns=[*"abcd"])), {}, ((16, 4), "float32", None)),
    "csv, label": (_csv(_frame(kind=LABELS)), {"label": "kind"}, ((16, 4), "float32", None)),
    "csv, columns": (_csv(_frame(kind=LABELS)), {"columns": "a,b b"}, ((16, 2), "float32", None)),
    "csv, drop": (_csv(_frame(kind=LABELS)), {"drop": "kind,a"}, ((16, 3), "float32", None)),
    "csv, category": (
        _csv(_frame(kind=LABELS)),
        {"kinds": "kind:category", "model": "mixed"},
        ((16, 5), "float32", None),
    ),
    "csv, split column": (
        _csv(_frame(s=["train"] * 15 + ["Test"] * 5)),
        {"split_column": "s"},
        ((15, 4), "float32", None),
    ),
    "csv, counts": (_csv(pd.DataFrame(COUNTS)), {"model": "negative_binomial"}, ((16, 4), "int16", None)),
    "csv, constant column": (_csv(_frame(e=1.0)), {"scale": "standard"}, ((16, 5), "float32", None)),
    "parquet": (_parquet(_frame(kind=LABELS)), {"label": "kind", "stratify": True}, ((16, 4), "float32", None)),
    "parquet, empty cells": (_parquet(pd.DataFrame(HOLED, columns=[*"abcd"])), {}, ((16, 4), "float32", None)),
    "parquet, counts": (_parquet(pd.DataFrame(COUNTS, columns=[*"abcd"])), {}, ((16, 4), "int16", None)),
    "parquet, category": (
        _parquet(_frame(kind=pd.Categorical(LABELS))),
        {"kinds": "kind:category", "model": "mixed"},
        ((16, 5), "float32", None),
    ),
    "h5ad": (_h5ad, {"label": "kind", "model": "negative_binomial"}, ((16, 4), "int16", None)),
    "images": (_images(GREY), {}, ((16, 30), "uint8", (6, 5))),
    "images in colour": (_images(COLOUR), {}, ((16, 90), "uint8", (6, 5, 3))),
    "images with classes": (_images(GREY, labelled=True), {"stratify": True}, ((16, 30), "uint8", (6, 5))),
    "images of several sizes": (_sizes, {"resize": "5x7"}, ((17, 35), "uint8", (5, 7))),
    "spaces and umlauts": (_npy(REAL, "mäine data.npy"), {}, ((16, 4), "float32", None)),
}


def _likelihood(dtype, image_shape):
    return "bernoulli" if image_shape else "poisson" if "int" in dtype else "normal"


@pytest.mark.parametrize("name", GOOD)
def test_a_file_becomes_numbers_and_trains(cli, name):
    make, options, (shape, dtype, image_shape) = GOOD[name]
    path = make()
    options = dict(options)
    model = options.pop("model", _likelihood(dtype, image_shape))
    data = load_data(path, **options)
    assert data.train.values.shape == shape
    assert str(data.train.values.dtype) == f"torch.{dtype}"
    assert data.image_shape == image_shape
    assert data.missing == ("missing" in name or "mask" in name or "empty" in name)
    flags = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", value)]
    tiny = ("--samples", 30, "--batch", 8, "--hidden", 3, "--compile", "off", "--no-figures")
    result = cli("train", "--data", path, *flags, "--model", model, *tiny, "--out", "run")
    assert result.status == 0, result.err
    result = cli("evaluate", "run", "--particles", 3, "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert found["datapoints"] == len(data.test)
    assert np.isfinite(found["bound"])
    result = cli("encode", "run", "--out", "z.csv", "--particles", 3)
    assert result.status == 0, result.err
    table = pd.read_csv("z.csv")
    assert len(table) == len(data.test)
    assert ("label" in table) == (data.test.labels is not None)
    if data.classes:
        assert table["label"].tolist() == [data.classes[n] for n in data.test.labels]
    result = cli("sample", "run", "--number", 4, "--out", "drawn.csv")
    assert result.status == 0, result.err
    drawn = pd.read_csv("drawn.csv")
    assert drawn.shape == (4, data.features)
    assert drawn.notna().all().all()
    assert list(drawn.columns) == list(data.names or [f"x_{n + 1}" for n in range(data.features)])
    if name in ("bytes", "npz mask", "colours first", "images in colour"):
        assert cli("reconstruct", "run", "--number", 4, "--out", "drawn.png").status == 0
        with Image.open("drawn.png") as picture:
            assert min(picture.size) > 100


def _read(name):
    make, options, _ = GOOD[name]
    options = {key: value for key, value in options.items() if key != "model"}
    return load_data(make(), **options)


def _sorted(values):
    return np.array(sorted(map(tuple, np.asarray(values).tolist())))


def _all(data):
    return torch.cat([data.train.first(), data.test.first()]).numpy()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("float64", REAL),
        ("float16", REAL.astype(np.float16)),
        ("big-endian", REAL),
        ("column-major", REAL),
        ("int64 counts", COUNTS),
        ("large counts", COUNTS * 200),
        ("booleans", COUNTS > 100),
        ("bytes", GREY.reshape(20, -1) / 256),
        ("bytes as counts", GREY.reshape(20, -1)),
        ("colours last", COLOUR.reshape(20, -1) / 256),
        ("colours first", COLOUR.reshape(20, -1) / 256),
        ("npz splits", REAL),
        ("pt", REAL),
        ("csv", REAL),
        ("csv without a header", REAL),
        ("tsv", REAL),
        ("csv, columns", REAL[:, :2]),
        ("csv, drop", REAL[:, 1:]),
        ("csv, counts", COUNTS),
        ("parquet", REAL),
        ("parquet, counts", COUNTS),
        ("h5ad", COUNTS),
        ("images", GREY.reshape(20, -1) / 256),
        ("images in colour", COLOUR.reshape(20, -1) / 256),
    ],
)
def test_values_are_those_of_the_file(name, values):
    np.testing.assert_allclose(_sorted(_all(_read(name))), _sorted(np.asarray(values, np.float32)), rtol=1e-6)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["missing", "csv, empty cells", "parquet, empty cells"])
def test_missing_cells_stay_missing(name):
    data = _read(name)
    found = np.concatenate([data.train.first().numpy(), data.test.first().numpy()])
    np.testing.assert_allclose(found, HOLED[np.concatenate(data.rows)].astype(np.float32), rtol=1e-6)
    masked = _read("npz mask")
    assert torch.equal(masked.train.first().isnan(), torch.from_numpy(GREY[masked.rows[0]] >= 200).view(16, -1))


@pytest.mark.usefixtures("here")
def test_labels_groups_and_splits():
    for name in ("npz labels", "images with classes", "parquet"):
        data = _read(name)
        assert data.classes == ("cat", "dog")
        # Stratified: 8 of 10 of each class train.
        assert data.train.labels.bincount().tolist() == [8, 8]
    data = _read("h5ad")
    assert [data.classes[n] for n in data.test.labels] == LABELS[data.rows[1]].tolist()
    assert data.names == ("g1", "g2", "g3", "g4")
    data = _read("csv, label")
    assert [data.classes[n] for n in data.test.labels] == LABELS[data.rows[1]].tolist()
    assert data.features == 4
    data = _read("npz groups")
    assert not {*data.rows[0] // 4} & {*data.rows[1] // 4}
    data = _read("csv, split column")
    assert data.rows[1].tolist() == [15, 16, 17, 18, 19]
    assert torch.equal(_read("csv, label").train.values, _read("csv, label").train.values)
    for name in ("csv, category", "parquet, category"):
        table = _read(name)
        assert table.kinds == ("real",) * 4 + ("category:2",)
        assert table.names == ("a", "b b", "ü", "d", "kind")
        kinds = torch.cat([table.train.first(), table.test.first()])[:, 4]
        assert [("cat", "dog")[int(n)] for n in kinds] == LABELS[np.concatenate(table.rows)].tolist()


@pytest.mark.usefixtures("here")
def test_a_test_file_is_the_test_split():
    frame = _frame(kind=LABELS)
    frame[:14].to_csv("a.csv", index=False)
    frame[14:][["kind", "d", "ü", "b b", "a"]].to_csv("b.csv", index=False)  # in another order
    data = load_data("a.csv", test="b.csv", label="kind")
    np.testing.assert_allclose(data.test.first().numpy(), REAL[14:].astype(np.float32))
    assert [data.classes[n] for n in data.test.labels] == LABELS[14:].tolist()
    np.save("a.npy", REAL[:14])
    np.save("b.npy", REAL[14:])
    data = load_data("a.npy", test="b.npy")
    np.testing.assert_allclose(data.test.first().numpy(), REAL[14:].astype(np.float32))
    np.save("b.npy", GREY)
    with pytest.raises(InputError, match=r"--test b.npy has other values than a.npy"):
        load_data("a.npy", test="b.npy")
    frame.drop(columns="a").to_csv("b.csv", index=False)
    with pytest.raises(InputError, match=r"--test b.csv has other columns than a.csv, \['a'\]"):
        load_data("a.csv", test="b.csv")


def test_scaling_is_of_the_training_split():
    for scale in ("standard", "unit"):
        data = load_data(np.where(np.isnan(HOLED), np.nan, HOLED * [1, 1e-3, 1e3, 0] + [0, 0, 1e4, 7]), scale=scale)
        x = data.train.first().double()
        loc, scale_by = data.scaled
        y = ((x - loc) / scale_by)[:, :3]
        if scale == "standard":
            torch.testing.assert_close(y.nanmean(0), torch.zeros(3).double(), atol=1e-4, rtol=0)
            torch.testing.assert_close(y.square().nanmean(0), torch.ones(3).double(), atol=1e-4, rtol=0)
        else:
            assert np.nanmin(y.numpy(), 0) == pytest.approx([0, 0, 0], abs=1e-5)
            assert np.nanmax(y.numpy(), 0) == pytest.approx([1, 1, 1], abs=1e-5)
        assert scale_by[3] == 1  # it never changes
    # Pixels are scaled alike.
    loc, scale_by = load_data(GREY, scale="standard").scaled
    assert len(loc.unique()) == len(scale_by.unique()) == 1


def _pipe():
    os.mkfifo("x.csv")
    return "x.csv"


def _stride():
    # A tensor of a terabyte in a few bytes, by strides of 0.
    torch.save(torch.zeros(1).expand(10**6, 10**6), "x.pt")
    return "x.pt"


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def _code():
    with Path("x.pt").open("wb") as file:
        pickle.dump(Evil(), file)
    return "x.pt"


def _zip_code():
    torch.save({"x": Evil()}, "x.pt")
    return "x.pt"


BAD = {
    "nothing": (lambda: "x.csv", {}, "x.csv cannot be read as a table: No such file"),
    "a pipe's name": (lambda: "-", {}, "--data - is a pipe, and a run must find its data again"),
    "a pipe": (_pipe, {}, "it is no regular file"),
    "unknown": (lambda: "x.doc", {}, "--data x.doc is unknown: choose from digits, mnist, frey"),
    "empty text": (_text(""), {}, "x.csv is empty"),
    "a header alone": (_text("a,b\n"), {}, "2 columns of cells and 0 rows"),
    "one row": (_text("a,b\n1,2\n"), {}, "has 1 datapoints, 1 to train and 0 to test"),
    "ragged": (_text("a,b\n1,2\n1\n"), {}, "has 1 fields in line 3, and 2 in its first line"),
    "ragged to the right": (_text("a,b\n1,2,3\n1,2,3\n"), {}, "has 3 fields in line 2, and 2"),
    "two names alike": (_text("a,a\n1,2\n3,4\n"), {}, "has two columns called a"),
    "no name": (_text(",a\n0,2\n1,4\n"), {}, "has no name for column 1"),
    "terminal codes": (_text("a\x1b[2J,b\n1,2\n3,4\n"), {}, "characters that do not print in the name of column 1"),
    "terminal codes in a cell": (_text("a,b\n\x1b[2J,2\n3,4\n"), {}, "has text in column a"),
    "latin-1": (_text("ä,b\n1,2\n", encoding="latin-1"), {}, "is not in UTF-8"),
    "utf-16": (_text("a,b\n1,2\n", encoding="utf-16"), {}, "is not in UTF-8"),
    "semicolons": (_text("a;b\n1;2\n3;4\n"), {}, "has no comma in its first line"),
    "text": (_csv(_frame(kind=LABELS)), {}, "has text in column kind, cat in row 1: leave it out by --drop kind"),
    "dates": (_csv(_frame(day=["2020-01-02"] * 20)), {}, "has dates in column day, 2020-01-02 in row 1"),
    "mixed": (_text("a,b\n1,2\nx,4\n3,5\n"), {}, "has text in column a, x in row 2"),
    "infinity": (_text("a,b\n1,2\ninf,4\n3,5\n"), {}, "has the value inf in row 2, column a"),
    "an identity": (
        _text("a,b\n123456789,2\n1,4\n3,5\n"),
        {},
        "has the value 123456789 in row 1, column a: float32 does",
    ),
    "unclosed quotes": (_text('a,b\n1,"2\n3,4\n'), {}, "cannot be read as a table"),
    "no such column": (_csv(_frame()), {"label": "knd"}, "has no column knd"),
    "near column": (_csv(_frame(kind=LABELS)), {"label": "knid"}, "did you mean kind?"),
    "no such drop": (_csv(_frame()), {"drop": "zz"}, "has no column zz"),
    "everything dropped": (_csv(_frame()), {"drop": "a,b b,ü,d"}, "0 columns of cells"),
    "columns of an array": (_npy(REAL), {"columns": "a"}, "--columns does not apply to x.npy"),
    "resize of an array": (_npy(REAL), {"resize": "3x3"}, "--resize does not apply to x.npy"),
    "real labels": (_csv(_frame(y=R.random(20))), {"label": "y"}, "has real numbers for the label y"),
    "missing covariate": (
        _csv(_frame(y=[None, *range(19)])),
        {"covariates": "y"},
        "no value of the covariate y in row 1",
    ),
    "a split of its own": (_npz(train=REAL, test=REAL), {"test_share": 0.5}, "--test-share does not apply to"),
    "wrong split": (
        _csv(_frame(s=["train", "valid"] * 10)),
        {"split_column": "s"},
        "has 'valid' in row 2 of its split",
    ),
    "stratified by nothing": (_npy(REAL), {"stratify": True}, "--stratify needs a label"),
    "kinds unknown": (_csv(_frame()), {"kinds": "a:colour"}, "--kinds a:colour is not possible"),
    "kinds that do not fit": (_csv(_frame()), {"kinds": "a:count"}, "--kinds a:count does not fit its values"),
    "ambiguous channels": (_npy(COLOUR[:, :3, :3]), {}, "its channels may be first or last: give --channels"),
    "no channels": (_npy(R.random((9, 7, 6, 5))), {}, "its channels may be first or last"),
    "objects": (_npy(np.array([{}, {}], dtype=object)), {}, "cannot be read as a NumPy array"),
    "complex": (_npy(REAL.astype(complex)), {}, "has values of type complex128"),
    "strings": (_npy(LABELS[:, None]), {}, "has values of type <U3"),
    "a mask of another shape": (
        _npz(x=REAL, observed=np.ones((20, 3), bool)),
        {},
        "has a mask observed of type bool and",
    ),
    "a whole column missing": (_npy(np.where([True, False, False, False], np.nan, REAL)), {}, "no value in column 1"),
    "code": (_code, {}, "cannot be read as tensors"),
    "code in a zip": (_zip_code, {}, "cannot be read as tensors"),
    "a promise by strides": (_stride, {}, "promises more values than the file holds"),
    "no image": (_broken_image, {}, "99.png cannot be read as an image"),
    "sizes differ": (_sizes, {}, "is of another size than the first, 6x5 and 5x6: give --resize HEIGHTxWIDTH"),
    "no size": (_images(GREY), {"resize": "big"}, "--resize big is not possible: give HEIGHTxWIDTH"),
    "sizes that enlarge": (
        _images(GREY),
        {"resize": "9999x9999"},
        "--resize 9999x9999 is more than 16 times the size of the images in pictures, which is 6x5 at most",
    ),
    "one side too long": (
        _images(GREY),
        {"resize": "6x81"},
        "is more than 16 times the size of the images in pictures",
    ),
    "no images": (lambda: (Path("x").mkdir(), "x")[1], {}, "--data x has no images"),
    "an h5ad that is none": (_text("", "x.h5ad"), {}, "x.h5ad cannot be read by anndata"),
    "an h5ad without the column": (_h5ad, {"label": "knd"}, "x.h5ad has no column knd in obs: it has kind"),
    "a parquet that is none": (_text("", "x.parquet"), {}, "x.parquet cannot be read as a table"),
    "text in a parquet": (_parquet(_frame(kind=LABELS)), {}, "has text in column kind, cat in row 1"),
    "reals under a Bernoulli": (
        _npy(REAL),
        {"model": "bernoulli"},
        "site 'x' of --model bernoulli allows numbers from 0 to 1",
    ),
    "negative counts": (_npy(COUNTS - 99), {"model": "poisson"}, "allows whole numbers from 0 on, and x.npy has -"),
    "above the largest": (_npy(COUNTS), {"model": "binomial"}, "allows whole numbers from 0 to 16, and x.npy has"),
    "scaled counts": (_npy(COUNTS), {"model": "poisson", "scale": "unit"}, "--scale does not apply to --model poisson"),
    "binarised reals": (_npy(REAL), {"binarize": "static"}, "--binarize static needs values from 0 to 1"),
    "missing and drawn anew": (
        _npz(x=GREY, observed=GREY < 200),
        {"binarize": "dynamic"},
        "not possible where cells are missing",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_data_is_answered_with_one_line(cli, name):
    make, options, message = BAD[name]
    flags = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", value)]
    result = cli("train", "--data", make(), *flags, "--samples", 30, "--batch", 4, "--hidden", 3, "--out", "run")
    assert result.status == 2, result
    assert result.err.count("\n") == 1
    assert message in result.err
    assert result.err[:-1].isprintable()
    assert not Path("run").exists()
    assert not Path("pwned").exists()


def test_objects_of_python_are_data():
    frame = _frame(kind=LABELS)
    tensors = TensorDataset(torch.from_numpy(REAL), torch.arange(20) % 2)
    named = xr.DataArray(REAL, dims=("day", "gauge"), coords={"gauge": ["p", "q", "r", "s"]})
    masked = np.ma.masked_invalid(HOLED)
    found = {
        "array": pyro_vae.data(REAL),
        "tensor": pyro_vae.data(torch.from_numpy(REAL)),
        "frame": pyro_vae.data(frame, label="kind"),
        "data array": pyro_vae.data(named),
        "torch": pyro_vae.data(tensors),
        "masked": pyro_vae.data(masked),
        "dict": pyro_vae.data({"train": REAL[:15], "test": REAL[15:]}),
    }
    for name, data in found.items():
        assert isinstance(data, Dataset), name
        values = torch.cat([data.train.first(), data.test.first()])
        rows = np.concatenate(data.rows) if name != "dict" else np.arange(20)
        expected = (HOLED if name == "masked" else REAL)[rows]
        np.testing.assert_allclose(values.numpy(), expected.astype(np.float32), rtol=1e-6, err_msg=name)
    assert found["frame"].names == ("a", "b b", "ü", "d")
    assert found["frame"].classes == ("cat", "dog")
    assert found["data array"].names == ("p", "q", "r", "s")
    assert torch.equal(found["torch"].train.labels, torch.from_numpy(found["torch"].rows[0] % 2))
    assert found["masked"].missing
    assert found["array"].checksum == found["tensor"].checksum != found["masked"].checksum
    with pytest.raises(InputError, match="columns, drop and kinds are of tables with names"):
        pyro_vae.data(REAL, columns="a")
    with pytest.raises(InputError, match="has values of type"):
        pyro_vae.data([["a", "b"], ["c", "d"]])


def _idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + array.tobytes())


def test_torchvisions_sets_are_read_by_its_own_classes(tmp_path, monkeypatch):
    from torchvision import datasets

    images = R.integers(0, 256, (8, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        raw = tmp_path / "FashionMNIST" / "raw"
        _idx(raw / f"{part}-images-idx3-ubyte", images)
        _idx(raw / f"{part}-labels-idx1-ubyte", np.arange(8, dtype=np.uint8))
    data = load_data("fashion_mnist", folder=tmp_path)
    assert data.image_shape == (28, 28)
    assert torch.equal(data.train.values, torch.from_numpy(images).view(8, -1))
    assert data.train.labels.tolist() == [*range(8)]

    # CIFAR-10: channels first in the file, in batches with checksums.
    pixels = R.integers(0, 256, (4, 3072), dtype=np.uint8)
    base = tmp_path / datasets.CIFAR10.base_folder
    base.mkdir()
    sums = []
    import hashlib

    for name in ("data_batch_1", "test_batch", "batches.meta"):
        content = (
            {"data": pixels, "labels": [3, 1, 0, 2]} if "meta" not in name else {"label_names": ["a", "b", "c", "d"]}
        )
        (base / name).write_bytes(pickle.dumps(content))
        sums.append([name, hashlib.md5((base / name).read_bytes()).hexdigest()])
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:1])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[1:2])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": sums[2][0], "key": "label_names", "md5": sums[2][1]})
    data = load_data("cifar10", folder=tmp_path)
    assert data.image_shape == (32, 32, 3)
    expected = pixels.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1).reshape(4, -1)
    assert torch.equal(data.train.values, torch.from_numpy(expected))
    assert data.test.labels.tolist() == [3, 1, 0, 2]
    assert data.classes == ("a", "b", "c", "d")
    again = more_of("cifar10", data, tmp_path)
    assert again.test.labels.tolist() == 2 * [3, 1, 0, 2]
    assert again.classes == data.classes


def test_a_set_that_cannot_be_had_says_what_to_put_where(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr(datasets.KMNIST, "download", offline)
    with pytest.raises(
        InputError, match=r"--data kmnist cannot be had \(no network\): put the files of torchvision's KMN"
    ):
        load_data("kmnist", folder=tmp_path)


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (GREY, {}, ("pixels", "grey")),
        (GREY, {"binarize": "static"}, ("pixels", "static")),
        (GREY, {"divisor": 1}, ("counts", "30")),
        (GREY > 99, {}, ("pixels", "binary")),
        (GREY / 255, {}, ("pixels", "grey")),
        (REAL, {}, ("columns", "4")),
        (COUNTS, {}, ("counts", "4")),
        (np.hstack([REAL, COUNTS]), {}, ("columns", "8")),
    ],
)
def test_cells_are_called_what_they_are(values, options, words):
    assert load_data(values, **options).cells == words


def test_the_table_is_as_large_as_it_should_be():
    assert len(GOOD) >= 40
    assert len(BAD) >= 40


def test_looking_at_values_draws_no_number_of_the_runs():
    from pyro_vae.models.bernoulli import BernoulliModel
    from pyro_vae.support import first_offence

    data = load_data(GREY, binarize="dynamic")
    torch.manual_seed(3)
    expected = torch.rand(3)
    model = BernoulliModel(data.features, 2, hidden=3)
    torch.manual_seed(3)
    assert first_offence(model, data.train) is None
    assert torch.equal(torch.rand(3), expected)

"""Files of every kind, changed at random, are read or refused in one line."""

import io
import random
import resource

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from pyro_vae.data import load_data
from pyro_vae.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 256, (12, 6), dtype=np.uint8)
FRAME = pd.DataFrame(VALUES / 7, columns=[*"abcdef"]).assign(kind=["x", "y"] * 6)


def _bytes_of(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


CONTENTS = {
    "x.npz": _bytes_of(lambda file: np.savez(file, x=VALUES, labels=np.arange(12), observed=VALUES > 9)),
    "x.csv": FRAME.to_csv(index=False).encode(),
    "x.tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    "x.pt": _bytes_of(lambda file: torch.save({"x": torch.from_numpy(VALUES / 7)}, file)),
    "x.safetensors": save({"x": torch.from_numpy(VALUES / 7)}),
    "images/a.bmp": _bytes_of(lambda file: Image.fromarray(VALUES).save(file, "bmp")),
}
OPTIONS = {"x.csv": {"label": "kind"}, "x.tsv": {"kinds": "kind:category"}}
NUMBERS = (
    b"1000000000000",
    b"-1",
    b"1e400",
    b"nan",
    b"9" * 300,
    b'"',
    b"\x00",
    b"\x1b[2J",
    b"\n",
    b",",
    "ä".encode("latin-1"),
)


def _changed(content, draw):
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 4, 8, 64)))
        kind = draw.randrange(5)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del content[at:end]
        elif kind == 2:
            content[at:at] = content[at:end] * draw.choice((1, 2, 50))
        elif kind == 3:
            content[at:end] = draw.randbytes(end - at)
        else:
            content[at:end] = draw.choice(NUMBERS)
    return bytes(content)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pandas.errors.DtypeWarning", "ignore::RuntimeWarning")
def test_changed_files_are_read_or_refused(tmp_path, name):
    draw, path, refused = random.Random(7), tmp_path / name, 0
    path.parent.mkdir(exist_ok=True)
    if "images" in name:
        for other in "bcdef":
            (path.parent / f"{other}.bmp").write_bytes(CONTENTS[name])
        data = path.parent
    else:
        data = path
    before = _peak()
    for _ in range(300):
        path.write_bytes(_changed(CONTENTS[name], draw))
        try:
            load_data(str(data), **OPTIONS.get(name, {}))
        except InputError as refusal:
            assert "\n" not in str(refusal)  # noqa: PT017, any other error is the failure
            refused += 1
    assert 0 < refused < 300  # some changes are none, or make other data
    assert _peak() - before < 100  # MiB

"""What a run folder holds: values that no run has written are refused in one line, before anything is done."""

import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pyro_vae.errors import InputError, RunError
from pyro_vae.run import folder
from pyro_vae.run.run import Run
from pyro_vae.run.stored import require_fit
from pyro_vae.run.train import train

CPU = torch.device("cpu")


class Stateful(nn.Linear):
    """A module with a state that is no tensor, and with a mask."""

    def __init__(self, state=None):
        super().__init__(3, 2)
        self.state = state
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


@pytest.mark.parametrize("state", [{"a": [1, 2.5, None, "b"]}, 3, [True], "text", None])
def test_a_state_of_plain_values_comes_back(tmp_path, state):
    module, other = Stateful(state), Stateful()
    folder.require_savable({"model": module})
    folder.write_weights(tmp_path, {"model": module})
    folder.read_weights(tmp_path, {"model": other})
    assert other.state == state
    assert torch.equal(other.weight, module.weight)


class Silent(nn.Linear):
    def get_extra_state(self):
        return 3


class Failing(nn.Linear):
    def get_extra_state(self):
        raise KeyError("a\nb")


def _with_buffer(value):
    module = nn.Linear(1, 1)
    module.register_buffer("odd", value)
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Stateful({1, 2}), r"--model Stateful cannot be saved: '_extra_state' of its state_dict is a set: make it a"),
        (Stateful({1: 2}), "is no value that JSON gives back"),
        (Stateful((1, 2)), "is no value that JSON gives back"),
        (Stateful({"a": torch.ones(2)}), "'_extra_state' of its state_dict is a dict"),
        (Stateful(math.nan), "'_extra_state' of its state_dict is a float"),
        (Stateful(b"bytes"), "is a bytes"),
        (Silent(1, 1), r"--model Silent cannot be read again: give Silent a method set_extra_state\(state\)"),
        (Failing(1, 1), r"--model Failing cannot be saved: its state_dict raises KeyError: 'a\\nb'"),
        (nn.LazyLinear(2), "'weight' of its state_dict is a tensor without a shape yet"),
        (_with_buffer(torch.eye(2).to_sparse()), "'odd' of its state_dict is a tensor that is sparse"),
        (_with_buffer(torch.empty(2, device="meta")), "'odd' of its state_dict is a tensor that is sparse"),
        (
            _with_buffer(torch.ones(2, dtype=torch.complex128)),
            "'odd' of its state_dict is a tensor of torch.complex128",
        ),
    ],
)
def test_a_state_that_cannot_be_saved_is_refused_before_training(module, message):
    with pytest.raises(InputError, match=message) as refusal:
        folder.require_savable({"model": module})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["model.weight"].fill_(math.nan), "weight is not finite"),
        (lambda t: t["model.bias"].fill_(math.inf), "bias is not finite"),
        (lambda t: t["model.mask"].fill_(-math.inf), "mask is not finite"),
        (lambda t: t.clear(), "it lacks "),
        (lambda t: t.pop("model.weight"), "it lacks weight"),
        (lambda t: t.update(more=torch.ones(1)), "more is none of the run's"),
        (lambda t: t.update({"model.more": torch.ones(1)}), "more is none of Stateful's"),
        (lambda t: t.update({"model.weight": torch.ones(3, 2)}), r"weight has shape \(3, 2\), not \(2, 3\)"),
        (lambda t: t.update({"model.weight": torch.ones(2, 3, dtype=torch.int8)}), "weight is of torch.int8, not"),
        (lambda t: t.update({"model.weight": torch.ones(2, 3).to(torch.float8_e4m3fn)}), "is of torch.float8_e4m3fn"),
        (lambda t: t.update({"model._extra_state": torch.ones(2)}), "_extra_state is a Tensor"),
    ],
)
def test_weights_that_no_run_has_written_are_refused(tmp_path, change, message):
    module = Stateful()
    folder.write_weights(tmp_path, {"model": module})
    path = tmp_path / "weights.safetensors"
    tensors = load_file(path)
    before = module.weight.clone()
    change(tensors)
    save_file(
        tensors, path, {"extra_state": json.dumps({} if "model._extra_state" in tensors else {"model._extra_state": 1})}
    )
    with pytest.raises(InputError, match=rf"^{path} cannot be read: .*{message}"):
        folder.read_weights(tmp_path, {"model": module})
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("extra", ["{", "[]", '{"model.more": 1}', "NaN"])
def test_metadata_that_no_run_has_written_are_refused(tmp_path, extra):
    module = nn.Linear(3, 2)
    tensors = {f"model.{name}": value for name, value in module.state_dict().items()}
    save_file(tensors, tmp_path / "weights.safetensors", {"extra_state": extra})
    with pytest.raises(InputError, match=r"weights.safetensors cannot be read: "):
        folder.read_weights(tmp_path, {"model": module})


def test_what_fits_may_be_infinite_by_design_or_of_another_precision():
    module = Stateful()
    require_fit(module, module.state_dict())
    require_fit(module, {name: v.double() if v is not None else v for name, v in module.state_dict().items()})


STATE = {"clock": {"samples": 100, "seconds": 0.5}, "metrics": [[100, 0.5, -2.0, -2.5]]}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (torch.ones(3), "is not a checkpoint of format 1"),
        ([1], "is not a checkpoint of format 1"),
        ({"format": torch.ones(3)}, "is not a checkpoint of format 1"),
        ({"format": [1]}, "is not a checkpoint of format 1"),
        ({"model": {"a": torch.eye(2).to_sparse()}}, "model.a is sparse, quantised or without values"),
        ({"model": {"a": torch.empty(2, device="meta")}}, "(model.a is sparse, quantised or|cannot be read)"),
        ({"model": {"a": torch.ones(1).expand(10**9)}}, "model.a is larger than what is stored of it"),
        ({"learner": {"update": [torch.tensor([math.nan])]}}, "learner.update.0 is not finite"),
        ({"clock": {"samples": -1, "seconds": 0.5}}, "its clock is at -1 samples and 0.5 seconds"),
        ({"clock": {"samples": 10**400, "seconds": 0.5}}, "its clock is at 1000"),
        ({"clock": {"samples": 1.5, "seconds": 0.5}}, "its clock is at 1.5 samples"),
        ({"clock": {"samples": 1, "seconds": -1.0}}, "its clock is at 1 samples and -1.0 seconds"),
        ({"clock": {"samples": 1, "seconds": math.nan}}, "its clock is at 1 samples and nan seconds"),
        ({"clock": {"samples": 1, "seconds": math.inf}}, "its clock is at 1 samples and inf seconds"),
        ({"clock": torch.ones(2)}, "its clock is at None samples"),
        ({"metrics": [[1, 2]]}, "its rows must have 4 columns"),
        ({"metrics": [[-1, 0.0, 0.0, 0.0]]}, "its numbers must be finite"),
        ({"metrics": 3}, "cannot be read: "),
    ],
)
def test_a_checkpoint_that_no_run_has_written_is_refused(tmp_path, state, message):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 1, **STATE, **state} if isinstance(state, dict) else state, path)
    with pytest.raises(InputError, match=message) as refusal:
        folder.read_checkpoint(tmp_path, CPU)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_an_archive_of_code_is_no_checkpoint(tmp_path, capfd):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt cannot be read: it is a TorchScript archive$"):
        folder.read_checkpoint(tmp_path, CPU)
    assert capfd.readouterr().err == ""


HEADER = "samples,seconds,train_bound,test_bound\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first row must be samples,seconds,train_bound,test_bound"),
        ("\n", "its first row must be"),
        ("0,0.0,-3.5,-3.25\n", "its first row must be"),
        (HEADER, "holds no evaluation: continue the run with --resume"),
        (HEADER + "0,0.0,-3.5\n", "its rows must have 4 columns"),
        (HEADER + "0,0.0,nan,-3.5\n", "its numbers must be finite"),
        (HEADER + "0,0.0,-3.5,inf\n", "its numbers must be finite"),
        (HEADER + "-1,0.0,-3.5,-3.5\n", "its numbers must be finite, and those of samples and seconds not below 0"),
        (HEADER + "1,-1.0,-3.5,-3.5\n", "its numbers must be finite, and those of samples and seconds not below 0"),
        (HEADER + "1e3,0.0,-3.5,-3.5\n", "cannot be read"),
        (HEADER + "\0,0.0,-3.5,-3.5\n", "cannot be read"),
    ],
)
def test_metrics_that_no_run_has_written_are_refused(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        folder.read_metrics(tmp_path)
    assert "\n" not in str(refusal.value)


# --- Run folders, changed at random ----------------------------------------------------------------------------------

LARGE = (b"1000000000000", b"-1", b"1e400", b"nan", b"inf", b"9" * 5000, b"0", b'"text"', b"[1]", b"1979-05-27")


def _changed(content, draw):
    content = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 4, 8, 64)))
        content[at:end] = draw.choice((b"", draw.randbytes(end - at), draw.choice(LARGE), content[at:end] * 2))
    return bytes(content)


def test_changed_run_folders_are_opened_or_refused_in_one_line(tmp_path):
    draw, refused = random.Random(3), 0
    (tmp_path / "own.py").write_text(
        "from blocks import HIDDEN\nfrom pyro_vae.models.bernoulli import BernoulliModel\n"
        "class Own(BernoulliModel):\n    def __init__(self, features, latent, depth: int = 1):\n"
        "        super().__init__(features, latent, HIDDEN, depth=depth)\n"
    )
    (tmp_path / "blocks.py").write_text("HIDDEN = 3\n")
    model = str(tmp_path / "own.py")
    train(tmp_path / "run", model=model, samples=200, train_size=100, progress=False, set={"model": {"depth": 1}})
    files = [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".py", ".toml", ".csv", ".safetensors")]
    assert len(files) == 5
    for n in range(250):
        path = files[n % 5]
        content = path.read_bytes()
        path.write_bytes(_changed(content, draw))
        try:
            Run.open(tmp_path / "run", trust=True)
        except (InputError, RunError) as refusal:
            refused += 1
            assert "\n" not in str(refusal)  # noqa: PT017, any other error is the failure
        path.write_bytes(content)
    assert 100 < refused < 250
    assert Run.open(tmp_path / "run", trust=True).rows
    shutil.rmtree(tmp_path / "run" / "parts")
    with pytest.raises(InputError, match=r"model.py cannot be read: No such file"):
        Run.open(tmp_path / "run", trust=True)
    assert Path(tmp_path / "own.py").exists()

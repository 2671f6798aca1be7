"""Pyro programs that the user names: functions in files with neighbours, and sizes that somebody else sets for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from attacks.arguments import CODE
from attacks.bench import RUNNING, TINY, Attack, Bench

PAIR = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn
{top}

def model(x, features, width=4, latent=2):
    weight = pyro.param("weight", lambda: {weight})
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(latent), 1.0).to_event(1))
        {inside}
        pyro.sample("obs", dist.Normal(z @ weight[:latent, :features], 1.0).to_event(1), obs=x)


def guide(x, features, width=4, latent=2):
    out = pyro.param("out", lambda: torch.zeros(features, latent))
    with pyro.plate("rows", len(x)):
        pyro.sample("z", dist.Normal(x @ out, 1.0).to_event(1))
"""
WEIGHTS = {
    "zeros": "torch.zeros(latent + width, features)",
    "draws": "torch.randn(latent + width, features)",
    "draws of a distribution": "dist.Normal(0., 1.).sample((latent + width, features))",
    "a product": "torch.ones(latent + width, 1) @ torch.ones(1, features)",
    "a sum of vectors": "torch.ones(latent + width, 1) + torch.ones(1, features)",
    "repetition": "torch.ones(1, features).repeat(latent + width, 1)",
    "growth": "torch.empty(0).resize_(latent + width, features).zero_()",
    "an identity": "torch.eye(max(features, latent + width))[:latent + width, :features]",
    "a range": "torch.arange((latent + width) * features).reshape(-1, features) / 1e9",
    "a list": "torch.stack([torch.zeros(features)] * min(latent + width, 10**5))",
    "a layer": "nn.Linear(features, latent + width).weight.detach()",
    "an array": "torch.from_numpy(__import__('numpy').zeros((latent + width, features), 'f4'))",
}
INSIDE = {
    "a wide layer": "y = torch.ones(len(x), 1) @ torch.ones(1, width)",
    "many wide layers": "kept = [torch.empty(width) for _ in range(1000)]",
    "a wide site": "pyro.sample('y', dist.Normal(torch.zeros(width), 1.0).to_event(1), infer={'is_auxiliary': True})",
    "classes": "y = nn.functional.one_hot(torch.zeros(len(x), dtype=torch.long), width)",
    "an error": "raise ValueError('a\\n' * 10**5)",
    "an error that moves the cursor": "raise ValueError('\\x1b[2J')",
    "an end": "raise SystemExit(0)",
    "an interrupt": "raise KeyboardInterrupt",
    "memory's end": "raise MemoryError",
    "a recursion": "model(x, features)",
    "a wrong site": "pyro.sample('w', 3)",
    "the site twice": "pyro.sample('z', dist.Normal(0., 1.))",
    "a parameter that comes late": "pyro.param(f'p{len(x)}', torch.zeros(2))",
    "a parameter of no number": "pyro.param('p', 'x')",
    "a parameter of not-a-number": "pyro.param('p', torch.full((2,), float('nan')))",
    "an empty parameter": "pyro.param('p', torch.zeros(0))",
    "100,000 parameters": "[pyro.param(f'p{n}', torch.zeros(1)) for n in range(100_000)]",
    "a name that moves the cursor": "pyro.param('\\x1b[2J', torch.zeros(2))",
    "a name of a megabyte": "pyro.param('p' * 2**20, torch.zeros(2))",
    "a name with dots": "pyro.param('..__class__', torch.zeros(2))",
    "a net that is made in the call": "pyro.module('net', nn.Linear(2, 2))",
    "the store emptied": "pyro.clear_param_store()",
    "the default type changed": "torch.set_default_dtype(torch.float64)",
}
SIZES = (10**6, 10**9, 10**12, 2**53, 2**62, -1)


def written(text: str, work: Path, name: str = "f.py") -> None:
    (work / name).parent.mkdir(parents=True, exist_ok=True)
    (work / name).write_text(text, encoding="latin-1")


def functions(door: str) -> Iterator[Attack]:
    """Functions: what they make, what they do, and what lies beside their files."""
    base = ["train", *TINY[2:], "--data", "x.npz", "--out", "out", "--model", "f.py:model"]

    def files(**contents: str) -> Callable[[Bench, Path], None]:
        def prepare(bench: Bench, work: Path) -> None:
            bench.data("x.npz", work / "x.npz")
            for name, text in contents.items():
                written(text, work, f"{name.replace('__', '/')}.py")

        return prepare

    fills = {"top": "", "weight": WEIGHTS["zeros"], "inside": "pass"}
    for what, weight in WEIGHTS.items():
        for size in SIZES:
            text = PAIR.format(**{**fills, "weight": weight})
            given = [*base, "--set", f"model.width={size}"]
            if what == "an array" and size > 0 and size < 10**12:
                continue  # NumPy's own, which is not seen
            yield Attack(door, f"{what} of {size}", given, files(f=text))
    for what, inside in INSIDE.items():
        text = PAIR.format(**{**fills, "inside": inside})
        for size in SIZES[:3] if "width" in inside else (4,):
            yield Attack(door, f"{what} of {size}", [*base, "--set", f"model.width={size}"], files(f=text))
    for what, content in CODE.items():
        yield Attack(door, f"{what} at the top", base, files(f=content))
        beside = PAIR.format(**{**fills, "top": "import beside"})
        yield Attack(door, f"{what} in its neighbour", base, files(f=beside, beside=content))
        inner = PAIR.format(**{**fills, "top": "import deep.beside"})
        deep = {"f": inner, "deep____init__": "", "deep__beside": content}
        yield Attack(door, f"{what} in a folder beside it", base, files(**deep))
    odd_imports = {
        "itself": "import f",
        "in a circle": "import beside",
        "by stars": "from beside import *",
        "what is not there": "import not_there",
        "what is above": "from ..elsewhere import x",
        "a name of torch": "import torch.nothing",
        "a hundred deep": "import a0",
    }
    chain = {f"a{n}": f"import a{n + 1}\n" for n in range(100)} | {"a100": ""}
    for what, top in odd_imports.items():
        text = PAIR.format(**{**fills, "top": top})
        more = chain if "deep" in what else {"beside": "import f\n"}
        yield Attack(door, f"imports {what}", base, files(f=text, **more))
    options = (
        "--guide f.py:nothing|--guide gaussian|--enumerate|--prior mixture|--set model.nothing=1|--set guide.width=1e9|"
        "--set model.x=1|--latent 1e9|--inference mcem|--inference full_vb|--hidden 1e9"
    )
    for option in options.split("|"):
        yield Attack(door, f"with {option}", [*base, *option.split()], files(f=PAIR.format(**fills)))
    yield Attack(door, "a configuration that names them", ["train", "--config", "c.toml", "--out", "out"], configured)


def configured(bench: Bench, work: Path) -> None:
    bench.data("x.npz", work / "x.npz")
    written(RUNNING + PAIR.format(top="", weight=WEIGHTS["zeros"], inside="pass"), work)
    (work / "c.toml").write_text('data = "x.npz"\nmodel = "f.py:model"\n')

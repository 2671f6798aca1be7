"""Finding and building parts: whatever a user's class is or does, the answer is a part or one line."""

import random
from pathlib import Path

import pytest
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.run import parts


@pytest.fixture
def find(tmp_path):
    """Finds the part of a file with some content."""

    def found(content, name="", kind="model"):
        path = tmp_path / "own.py"
        path.write_text(content)
        return parts.find(kind, f"{path}:{name}" if name else str(path))

    return found


OWN = "class Own:\n    def forward(self): ...\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("__all__ = None\n" + OWN, r"own.py has an __all__ that is not a list of names: write __all__ = \['CLASS'\]"),
        ("__all__ = 'Own'\n" + OWN, "has an __all__ that is not a list of names"),
        ("__all__ = 3\n" + OWN, "has an __all__ that is not a list of names"),
        ("__all__ = [Exception, 'Own']\n" + OWN, "has an __all__ that is not a list of names"),
        ("__all__ = ['Own', 'Gone']\n" + OWN, "lists Gone in __all__ and has nothing of that name: take it out"),
        ("__all__ = []\n" + OWN, "has no public class: write one"),
        ("__all__ = ['Exception']", "lists Exception in __all__ and has nothing of that name"),
        ("from torch.nn import Linear", "has no public class: write one"),
        ("from torch.nn import Linear\n__all__ = ['Linear']", "has no public class: write one"),
        ("def __getattr__(name): raise RuntimeError(name)", "has no public class: write one"),
        ("def __getattr__(name): return type(name, (), {})", "has no public class: write one"),
        (
            "class Odd(type):\n    def __getattribute__(self, name): raise RuntimeError(name)\n"
            "class Own(metaclass=Odd): ...\n",
            "cannot be used: RuntimeError",
        ),
        (
            "class Odd(type):\n    def __getattr__(self, name): raise RuntimeError(name)\n"
            "class Own(metaclass=Odd):\n    forward = 1\n__all__ = ['Own']",
            "cannot be used: RuntimeError",
        ),
        (
            "class Odd(type):\n    def __getattr__(self, name): return 1\n"
            "class Own(metaclass=Odd): ...\n__all__ = ['Own']",
            "has a metaclass that makes attributes up: leave it out",
        ),
        (
            "class Odd:\n    @property\n    def __class__(self): raise RuntimeError\nodd = Odd()\n__all__ = ['odd']",
            "has no public class: write one",
        ),
    ],
)
def test_a_file_without_a_usable_part_is_refused(find, content, message):
    with pytest.raises(InputError, match=message) as refusal:
        find(content)
    assert "\n" not in str(refusal.value)


def test_what_a_module_makes_up_does_not_matter(find):
    for body in ("raise RuntimeError(name)", "return None", "return type(name, (), {})"):
        assert find(f"{OWN}def __getattr__(name): {body}").__name__ == "Own"


def test_a_function_or_a_pair_is_found_as_it_is(find):
    assert find("def model(x): ...", "model").__name__ == "model"
    assert parts.is_pair(find("class VAE:\n    def model(self): ...\n    def guide(self): ...\n", "VAE"))


def test_a_class_of_a_neighbour_is_a_part_where_it_is_listed(find, tmp_path):
    (tmp_path / "blocks.py").write_text(OWN)
    assert find("from blocks import Own\n__all__ = ['Own']").__name__ == "Own"
    with pytest.raises(InputError, match="has no public class"):
        find("from blocks import Own")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self): import sys; sys.exit(1)", "model Own cannot be built: SystemExit: 1"),
        ("def __init__(self): raise GeneratorExit", "model Own cannot be built: GeneratorExit"),
        ("def __init__(self): raise ValueError('a\\nb')", "model Own cannot be built: ValueError: a b"),
        ("def __new__(cls): return 3", "model Own cannot be built: its constructor returns a int"),
        ("def __new__(cls): return None", "model Own cannot be built: its constructor returns a NoneType"),
        ("__signature__ = 3", r"the arguments of Own cannot be read \(TypeError: .*\): write them out in its __init__"),
    ],
)
def test_a_class_that_cannot_be_built_is_told_in_one_line(find, body, message):
    part = find(f"class Own:\n    forward = 1\n    {body}\n")
    with pytest.raises(InputError, match=message) as refusal:
        parts.build("model", part)
    assert "\n" not in str(refusal.value)
    if "signature" in body:
        with pytest.raises(InputError, match=message):
            parts.takes(part, "hidden")


def test_an_interrupt_in_a_constructor_passes(find):
    with pytest.raises(KeyboardInterrupt):
        parts.build("model", find("class Own:\n    forward = 1\n    def __init__(self): raise KeyboardInterrupt\n"))


def test_a_constructor_cannot_change_the_settings(find):
    body = "widths.append(3)\n        widths[0][0] = 4\n"
    part = find(f"class Own:\n    forward = 1\n    def __init__(self, widths):\n        {body}")
    own = {"widths": [[1], 2]}
    parts.build("model", part, own=own)
    assert own == {"widths": [[1], 2]}


def test_arguments_that_the_run_gives_are_not_the_users(find):
    part = find("class Own:\n    forward = 1\n    def __init__(self, features, latent, /, hidden=1, *rest): ...\n")
    for name in ("features", "latent", "rest"):
        assert not parts.takes(part, name)
    assert parts.takes(part, "hidden")
    part = find("class Own:\n    forward = 1\n    def __init__(self, features, latent): ...\n")
    with pytest.raises(InputError, match=r"--set model.latent is not possible: the run itself gives it to Own, leave"):
        parts.build("model", part, 12, 2, own={"latent": 3})


_LOGS = ("log_variance_factor", "max_log_concentration", "min_log_scale", "min_log_variance")


@pytest.mark.parametrize("kind", ["model", "prior", "guide"])
def test_every_part_refuses_what_its_annotations_do_not_allow(kind):
    """All arguments of all parts that a user may set: text where a number is wanted, nan, and a number below all."""
    given = {"model": (12, 2), "guide": (12, 2), "prior": (2,)}[kind]
    for name in parts.names(kind):
        part = parts.find(kind, name)
        own = [key for key in parts.parameters(part) if key not in ("features", "latent", "guide", "prior")]
        shared = {"features": 12, "guide": nn.Identity()} if name == "vamp" else {}
        for key in own:
            # Data without labels have 0 classes, of which a part that needs some says so itself.
            below = () if key in _LOGS else (-1.0,) if key == "classes" else (-1.0, 0)
            for value in (float("nan"), [1], "abc", *below):
                with pytest.raises(
                    InputError, match=rf"^--set {kind}.{key} .* is not possible: give .*\(default .*\)$"
                ):
                    parts.build(kind, part, *given, own={key: value}, **shared)


# --- Files and classes, changed at random ----------------------------------------------------------------------------

WHOLE = """
from typing import Annotated
import math
from blocks import Block
from pyro_vae.errors import Range
from pyro_vae.models.bernoulli import BernoulliModel
__all__ = ["Own"]
class Odd(type(BernoulliModel)):
    def __call__(cls, *given, **named):
        return super().__call__(*given, **named)
class Own(BernoulliModel, Block, metaclass=Odd):
    uses = {"a": 1}
    def __init__(self, features, latent, hidden: int = 5, width: Annotated[float, Range(0, 1)] = 0.5, name: str = "a"):
        super().__init__(features, latent, hidden)
        self.width = math.sqrt(width)
    def forward(self, x=None, size=None):
        return super().forward(x, size)
def __getattr__(name):
    raise AttributeError(name)
"""
PIECES = (
    "None", "0", "1/0", "(", ")", ":", "\n", "\n    ", "\0", "\udcff", "raise SystemExit", "raise BaseException",
    "__all__ = 1", "import nothing", "from . import blocks", "from .. import x", "yield", "return",
    "exit()", "self.__class__ = int", "globals().clear()", "Own = 1", "@staticmethod", "del Own", "**",
)  # fmt: skip
VALUES = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "abc",
    [],
    [1, 2],
    {},
    {"a": 1},
    10**30,
    b"x",
    object(),
)


def test_changed_files_are_parts_or_refused_in_one_line(tmp_path):
    draw, path, refused = random.Random(1), tmp_path / "own.py", 0
    (tmp_path / "blocks.py").write_text("class Block: ...\n")
    for _ in range(250):
        text = WHOLE
        for _ in range(draw.randint(1, 3)):
            start = draw.randrange(len(text))
            end = min(len(text), start + draw.choice((0, 1, 5, 40)))
            text = text[:start] + draw.choice([*PIECES, text[start:end] * 2, ""]) + text[end:]
        path.write_bytes(text.encode(errors="surrogateescape"))
        own = {draw.choice(("hidden", "width", "name")): draw.choice(VALUES) for _ in range(draw.randint(0, 2))}
        try:
            parts.build("model", parts.find("model", str(path)), 6, 2, own=own)
        except InputError as refusal:
            refused += 1
            assert "\n" not in str(refusal), text  # noqa: PT017, any other error is the failure
    assert 100 < refused < 250
    assert {file.name for file in Path(tmp_path).iterdir()} == {"own.py", "blocks.py"}

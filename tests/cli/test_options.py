"""What commands share: options in their order, values that reach a command together, and arguments of parts."""

import click
import pytest

from pyro_vae.cli.options import grouped, merged, options
from pyro_vae.errors import InputError


def _shout(word, number):
    return {"word": word.upper(), "number": number + 1}


@click.command()
@click.argument("name")
@options(click.option("--first"), click.option("--second"))
@grouped("pair", _shout, click.option("--word"), click.option("--number", type=int))
@grouped("rest", dict, click.option("--last", is_flag=True))
def command(name, first, second, pair, rest):
    click.echo(repr((name, first, second, pair, rest)))


def test_options_stand_in_their_order_and_grouped_ones_arrive_as_one(capsys):
    names = [parameter.name for parameter in command.params]
    assert names == ["name", "first", "second", "word", "number", "last"]
    given = ["x", "--word", "a", "--number", "2", "--second", "s"]
    command.main(given, standalone_mode=False)
    assert capsys.readouterr().out == "('x', None, 's', {'word': 'A', 'number': 3}, {'last': False})\n"


def test_assignments_are_added_to_what_is_given():
    given = {"model": {"depth": 2, "activation": "elu"}}
    texts = ["model.depth=3", "inference.weight_prior=inf", "my.own.py.word=text", "model.on=true", "model.none="]
    assert merged(given, texts, ("model", "inference", "my.own.py")) == {
        "model": {"depth": 3, "activation": "elu", "on": True, "none": ""},
        "inference": {"weight_prior": float("inf")},
        "my.own.py": {"word": "text"},
    }
    assert given == {"model": {"depth": 2, "activation": "elu"}}


@pytest.mark.parametrize("text", ["depth=3", "model.depth", "model.=3", "guide.depth=3", "=3", ""])
def test_what_assigns_nothing_is_refused(text):
    with pytest.raises(InputError, match=f"--set {text} is not PART.KEY=VALUE, PART being one of model, inference"):
        merged({}, [text], ("model", "inference"))

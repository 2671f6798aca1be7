"""What is to be cited: the sources that docstrings name, and each of them with an entry."""

import inspect
import re
import sys

import pytest

import pyro_vae
from pyro_vae import cite
from pyro_vae.errors import InputError
from pyro_vae.run import parts
from pyro_vae.run.cite import references

KINDS = ("model", "prior", "guide", "inference", "marginal")
SOURCE = re.compile(r"[A-Z][\w-]+(?: et al\.|(?:, [A-Z]\w+)*(?: & [A-Z]\w+))?, (?:19|20)\d\d")


def _said():
    """The sources that each part names."""
    for kind in KINDS:
        for name in parts.names(kind):
            part = parts.find(kind, name)
            text = f"{inspect.getdoc(sys.modules[part.__module__])} {inspect.getdoc(part)}"
            yield name, SOURCE.findall(" ".join(text.split()))


def test_each_source_that_a_part_names_has_an_entry_and_each_entry_is_named():
    known = set(references())
    said = {source for _, sources in _said() for source in sources}
    assert len(known) > 15
    assert said == known - {"Kingma & Welling, 2014", "Bingham et al., 2019"}  # those are cited always


def test_a_part_brings_its_sources():
    for name, sources in _said():
        cited = cite(name)
        assert all(references()[source] in cited for source in sources), name
        assert f"version = {{{pyro_vae.__version__}}}" in cited
        assert "kingma2014auto" in cited
        assert "bingham2019pyro" in cited


def test_all_kinds_of_a_name_are_cited():
    # The prior is a masked autoregressive flow, the guide one of couplings.
    cited = cite("flow")
    assert "papamakarios2017masked" in cited
    assert "dinh2017density" in cited
    assert "tomczak2018vae" not in cited


def test_entries_are_bibtex():
    keys = [re.match(r"@\w+\{(\w+),\n(?:  \w+ = \{.*\},\n)+\}\n\Z", entry)[1] for entry in references().values()]
    assert len(set(keys)) == len(keys)
    assert all(entry.count("{") == entry.count("}") for entry in references().values())


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(InputError, match="cite nope is unknown: choose from aevb, ais, "):
        cite("nope")


def test_the_command_prints_them(cli):
    result = cli("cite", "importance")
    assert result.status == 0
    assert result.out == cite("importance")

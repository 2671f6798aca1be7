"""TOML from anywhere."""

import os

import pytest

from pyro_vae.run.toml import parse_toml, read_toml_file


def test_ordinary_tables_are_read(tmp_path):
    text = (
        'a.b.c = 1\n"x.y.z" = "one.two"\n[data.levels]\n"a name. of words" = ["x", "y"]\n'
        "[[many]]\nn = -9223372036854775807\n"
    )
    expected = {
        "a": {"b": {"c": 1}},
        "x.y.z": "one.two",
        "data": {"levels": {"a name. of words": ["x", "y"]}},
        "many": [{"n": -9223372036854775807}],
    }
    assert parse_toml(text) == expected
    (tmp_path / "a.toml").write_text(text)
    assert read_toml_file(tmp_path / "a.toml") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" + ".a" * 10**6 + " = 1", "keys of more than 16 parts"),
        ('"a"' + ' . "a"' * 10**5 + " = 1", "keys of more than 16 parts"),
        ("'a'" + ".'a'" * 10**5 + " = 1", "keys of more than 16 parts"),
        ("[" + "a." * 10**5 + "a]", "keys of more than 16 parts"),
        ("x = " + "[" * 10**6, "too deep"),
        ("x = " + "[" * 40 + "]" * 40, "too deep"),
        ("x = " + "9" * 10_000, "4300 digits"),
        ("x = 0x" + "f" * 10**6, "more than 64 bits"),
        ("x = 9223372036854775808", "more than 64 bits"),
        ("x = [1, {y = 0xffffffffffffffffff}]", "more than 64 bits"),
    ],
)
def test_what_no_settings_need_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(OSError, match="it is no regular file"):
        read_toml_file(tmp_path / "a.toml")

"""The one reader of files that may be anything."""

import os

import pytest

from pyro_vae.files import open_to_add, read_regular


def test_a_file_of_a_bounded_size_is_read(tmp_path):
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"x" * 2**20)
    link.symlink_to(path)
    assert read_regular(path, 2**20) == read_regular(link, 2**20) == b"x" * 2**20
    with path.open("ab") as file:
        file.write(b"y")
    with pytest.raises(ValueError, match="it is longer than 1 MiB"):
        read_regular(link, 2**20)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "missing": lambda: None,
    }[kind]()
    with pytest.raises(OSError, match="No such file" if kind == "missing" else "it is no regular file"):
        read_regular(path, 10)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_lines_are_added_to_regular_files_alone(tmp_path, kind):
    path, other = tmp_path / "a", tmp_path / "other"
    other.write_text("old")
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/full"),
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(other),
    }[kind]()
    with pytest.raises(OSError):  # noqa: PT011, the system's own words
        open_to_add(path)
    with open_to_add(other) as file:
        file.write(b", new")
    assert other.read_text() == "old, new"

"""The page about data leads to where it says; its code is run with that of all pages, in tests/test_docs.py."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "docs/data.md").read_text())))
)
def test_the_data_pages_links_lead_somewhere(path):
    assert (ROOT / "docs" / path).exists()

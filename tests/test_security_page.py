"""Each sentence of the security page names its test, and there is one of that name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_tests_that_the_page_names_are_there():
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_every_promise_names_a_test():
    for part in PAGE.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        if title.endswith("cannot"):
            for promise in rest.split("\n- ")[1:]:
                assert "::test_" in promise, promise

"""The pages say what is so: every block of code runs, what is shown is printed, and links lead somewhere.

A page's blocks run in order, in one empty folder:

- Python whose first line is a comment with a file's name is that file, as is TOML; other Python runs in one namespace.
- In blocks without a language, `pyro-vae` begins a command. After `$ pyro-vae` comes what it prints, `...` for some of
  it, where numbers may be others: trainings are shortened here.
- `text` is output or a formula, and is not looked at; neither is what the site alone reads, as `{toctree}`. What cannot
  run here says why, `<!-- not run: hours -->`. What needs all of its samples says `<!-- in full -->`.
"""

import csv
import re
import shlex
from glob import glob
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?:not run: (?P<why>[^\n]+?)|(?P<full>in full)) -->\n)?```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.M,
)
# What a command is given here, where it does not say less itself: its settings are the page's, its patience is not.
SHORT = {
    "sweep": {"--limit": 10, "--samples": 500},
    "train": {"--samples": 1000},
    "evaluate": {"--limit": 10, "--particles": 50},
    "compare": {"--limit": 10, "--particles": 50},
    "manifold": {"--grid": 3},
    "sample": {"--number": 4},
    "reconstruct": {"--number": 4},
}
NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")
FRAME = re.compile(r"[┏┓┗┛━┃┡┩┳┻╇╪┴│─└┘]+")


class Block(NamedTuple):
    line: int
    language: str
    text: str
    why: str | None
    full: bool


def _name(page):
    return str(page.relative_to(ROOT))


def blocks(page):
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        yield Block(line, found["language"], found["text"], found["why"], bool(found["full"]))


def commands(text):
    """The commands of a block, with what they are said to print; None where nothing is said."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith(("$ pyro-vae ", "pyro-vae ")):
            found.append((line.removeprefix("$ "), [] if line.startswith("$ ") else None))
        elif line.startswith("$ ") or not found or found[-1][1] is None:
            assert not line.strip() or line.startswith("#"), f"{line!r} is neither a command nor what one prints"
        else:
            found[-1][1].append(line)
    return found


def shortened(command, shown, full):
    _, name, *arguments = shlex.split(command, comments=True)
    arguments = [each for argument in arguments for each in sorted(glob(argument)) or [argument]]
    for option, most in SHORT.get(name, {}).items() if not full else ():
        given = float(arguments[arguments.index(option) + 1]) if option in arguments else most
        arguments += [option, str(int(min(given, most)))]
    if "ais" in arguments:
        arguments += ["--set", "ais.temperatures=20"]
    if name == "train" and not any(line.startswith("figure ") for line in shown or ()):
        arguments.append("--no-figures")
    return [name, *arguments]


def alike(line):
    """A line without its numbers, the frame of a table, and the folder that it was run in."""
    return " ".join(NUMBER.sub("#", FRAME.sub(" ", re.sub(r"\S*/(?=[\w.]+ test,)", "", line))).split())


def run(block, cli, namespace):
    if block.language in ("python", "toml"):
        if named := re.match(r"# (\w+\.(py|toml))\n", block.text):
            Path(named[1]).write_text(block.text, encoding="utf-8")
        else:
            assert block.language == "python", "a file needs its name in a first line: # NAME.toml"
            exec(compile(block.text, f"line {block.line}", "exec"), namespace)
        return
    assert block.language == "", f"{block.language} is no language that is run: say text, or why it is not run"
    found = commands(block.text)
    assert found, "there is no command: say text where it is output, or why it is not run"
    for command, shown in found:
        result = cli(*shortened(command, shown, block.full))
        refused = any(line.startswith("pyro-vae: ") for line in shown or ())
        assert (result.status != 0) == refused, f"{command}\n{result.out}{result.err}"
        printed = alike(result.out + result.err)  # lines may be broken elsewhere
        for line in filter(None, map(alike, shown or ())):
            assert line == "..." or line in printed, f"{command} prints no {line!r}:\n{result.out}{result.err}"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_blocks_of_a_page_run(page, cli):
    namespace = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "text" or block.language.startswith("{") or block.why:
            continue
        try:
            run(block, cli, namespace)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page.name}, line {block.line}: {type(error).__name__}: {error}") from error


LINKS = [
    pytest.param(page, path, id=f"{_name(page)}-{path}")
    for page in PAGES
    for path in sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))))
]


@pytest.mark.parametrize(("page", "path"), LINKS)
def test_links_lead_somewhere(page, path):
    assert (page.parent / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_anchors_are_headings(page):
    for path, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        text = (page.parent / path if path else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.M)
        assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def _claims():
    with (ROOT / "docs" / "results" / "paper" / "claims.csv").open(encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def test_the_readmes_count_of_claims_is_the_committed_one():
    answers = [row["holds"].partition(" ")[0] for row in _claims()]
    assert set(answers) == {"yes", "no", "shown"}
    told = f"{answers.count('yes')} claims hold, {answers.count('no')} do not, {answers.count('shown')} are tests"
    assert told in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_the_pages_claims_are_the_committed_ones():
    page = (ROOT / "docs" / "results" / "paper.md").read_text(encoding="utf-8")
    for row in _claims():
        shown = re.sub(r"shown by tests/([\w/]+\.py)::\w+", r"[a test](../../tests/\1)", row["holds"])
        cells = [row[column] for column in ("claim", "statement", "paper", "ours")]
        assert f"| {' | '.join([*cells, shown])} |\n" in page
        if test := re.fullmatch(r"shown by (tests/[\w/]+\.py)::(\w+)", row["holds"]):
            assert f"def {test[2]}(" in (ROOT / test[1]).read_text(encoding="utf-8")


def test_the_mistake_of_the_swap_is_answered_as_the_page_says(cli):
    page = ROOT / "docs" / "swapping.md"
    prior = next(block.text for block in blocks(page) if block.language == "python")
    Path("wrong.py").write_text(prior.replace(".to_event(1)", ""), encoding="utf-8")
    told = " ".join(cli("train", "--prior", "wrong.py", "--out", "run").err.split())
    assert told in page.read_text(encoding="utf-8")

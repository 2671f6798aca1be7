"""The report in a real browser, and what it says."""

import json
import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


class _Browser:
    """Chromium's own protocol over a pipe: no port, no library."""

    def __init__(self, profile):
        down, self.write = os.pipe()
        self.read, up = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        command = f'exec "$0" "$@" 3<&{down} 4>&{up}'
        arguments = ["bash", "-c", command, CHROMIUM, *flags, "--remote-debugging-pipe"]
        self.process = subprocess.Popen(arguments, pass_fds=(down, up), stderr=subprocess.DEVNULL)
        os.close(down)
        os.close(up)
        self.replies = os.fdopen(self.read, "rb")
        self.events, self.number, self.session = [], 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _next(self):
        message = b""
        while not message.endswith(b"\0"):
            byte = self.replies.read(1)
            assert byte, "the browser is gone"
            message += byte
        return json.loads(message[:-1])

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters, **self.session}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width):
        """Opens a page and returns what happened on the way."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        script = """JSON.stringify({
            images: [...document.images].map(image => image.complete && image.naturalWidth > 0),
            overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
            headings: [...document.querySelectorAll('h2')].map(heading => heading.textContent)})"""
        page = json.loads(self.call("Runtime.evaluate", expression=script)["result"]["value"])
        wrong = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        requests = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return SimpleNamespace(
            **page,
            errors=[event for event in self.events if event.get("method") in wrong],
            requests=[url for url in requests if not url.startswith("data:")],
        )

    def close(self):
        self.process.kill()
        self.process.wait()
        self.replies.close()
        os.close(self.write)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install it to see the report in a browser")
    opened = _Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_is_whole_in_a_browser(analysed, browser, width):
    report = analysed / "report.html"
    page = browser.open(report, width)
    assert page.headings == [
        "What was run",
        "Does the model fit?",
        "Are the posterior draws right?",
        "Is the guide trustworthy?",
        "What to do next",
        "Glossary",
    ]
    assert len(page.images) >= 12
    assert all(page.images)
    assert page.errors == []
    assert page.requests == [report.as_uri()]
    assert page.overflow == 0


def test_the_browser_tells_what_is_wrong(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><img src='missing.png'><div style='width: 3000px'>.</div><script>throw Error()</script>"
    )
    found = browser.open(page, 390)
    assert found.images == [False]
    assert found.errors
    assert len(found.requests) == 2
    assert found.overflow > 0


def test_every_number_of_a_table_is_there_and_named_at_any_width(analysed, browser):
    script = """JSON.stringify([...document.querySelectorAll('td')].map(cell => {
        const box = cell.getBoundingClientRect();
        return {text: cell.textContent, head: getComputedStyle(cell, '::before').content,
                inside: box.width > 0 && box.left >= 0 && box.right <= document.documentElement.clientWidth}}))"""
    texts = []
    for width in (1300, 420):
        browser.open(analysed / "report.html", width)
        cells = json.loads(browser.call("Runtime.evaluate", expression=script)["result"]["value"])
        assert len(cells) > 60
        assert all(cell["inside"] for cell in cells)
        texts.append([cell["text"] for cell in cells])
        named = [cell["head"] not in ("none", '""') for cell in cells]
        assert all(named) == (width == 420)
    assert texts[0] == texts[1]


def test_plots_have_one_width_and_fill_the_page(analysed, browser):
    script = """JSON.stringify([...document.querySelectorAll('.plots')].slice(1).map(grid => [
        grid.clientWidth, ...[...grid.querySelectorAll('img')].map(image => image.getBoundingClientRect().width)]))"""
    browser.open(analysed / "report.html", 1300)
    grids = json.loads(browser.call("Runtime.evaluate", expression=script)["result"]["value"])
    assert len(grids) == 3
    widths = [width for _, *images in grids for width in images]
    assert max(widths) - min(widths) < 1
    for page, *images in grids:
        across = round((page + 24) / (images[0] + 24))  # the grid's gap is 1.5rem
        assert across * (images[0] + 24) - 24 == pytest.approx(page, abs=2)
        assert page > 1200


def test_the_report_says_what_was_done(analysed):
    page = (analysed / "report.html").read_text()
    for words in (
        "pyro-vae analyze",
        "--draws 30",
        " UTC",
        "Learning curve",
        "nats per datapoint",
        "in units of the data",
    ):
        assert words in page, words
    assert re.search(r"<dt>p</dt><dd>the share of replications whose statistic is above that of the data", page)


def test_what_comes_from_files_is_no_markup(analysed, tmp_path):
    from pyro_vae import Run
    from pyro_vae.analysis.analyze import analyze
    from pyro_vae.analysis.report import write_report

    path = tmp_path / "run"
    shutil.copytree(analysed, path)
    record = (path / "run.toml").read_text()
    (path / "run.toml").write_text(re.sub(r"(?m)^command = .*$", 'command = "<script>alert(1)</script>"', record))
    run = Run.open(path)
    found = analyze(run, limit=4, chains=2, draws=8, warmup=4, quick=True, progress=False)
    page = write_report(run, found).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page

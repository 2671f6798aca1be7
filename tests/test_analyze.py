"""`pyro-vae analyze` as a user runs it, and its report in a real browser."""

import csv
import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import arviz as az
import pytest

from pyro_vae import train
from pyro_vae.analysis.verdicts import findings
from pyro_vae.cli import main

TINY = ("--limit", "12", "--chains", "2", "--draws", "30", "--warmup", "10")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A run folder after `analyze`."""
    out = tmp_path_factory.mktemp("analysed") / "run"
    train(out, data="digits", latent=2, hidden=20, samples=3000, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_vae.analysis.analyze._SIMULATIONS", 20)
        patch.setattr("pyro_vae.analysis.analyze._TRANSITIONS", 20)
        main(["analyze", str(out), *TINY])
    return out


def test_it_writes_what_it_finds(analysed):
    assert {path.name for path in (analysed / "analysis").iterdir()} == {
        "draws.nc",
        "summary.json",
        "datapoints.csv",
        "latents.csv",
    }
    summary = json.loads((analysed / "analysis/summary.json").read_text())
    about, gaps = summary["run"], summary["gaps"]
    assert (about["data"], about["datapoints"], about["chains"], about["draws"]) == ("digits", 12, 2, 30)
    assert gaps["gap"] == pytest.approx(gaps["approximation_gap"] + gaps["amortisation_gap"])
    assert gaps["gap"] == pytest.approx(gaps["log_px"] - gaps["bound"])
    rows = list(csv.DictReader((analysed / "analysis/datapoints.csv").read_text().splitlines()))
    assert len(rows) == 12
    mean = sum(float(row["log_px"]) for row in rows) / 12
    assert mean == pytest.approx(gaps["log_px"])
    worst = max(rows, key=lambda row: float(row["rhat"]))
    assert summary["sampler"]["worst_rhat"][0] == int(worst["datapoint"])
    assert float(worst["rhat"]) == pytest.approx(summary["sampler"]["rhat"]["max"])
    assert len(list(csv.DictReader((analysed / "analysis/latents.csv").read_text().splitlines()))) == 2


def test_the_draws_are_those_of_the_run(analysed):
    tree = az.from_netcdf(analysed / "analysis/draws.nc")
    assert tree["posterior"]["z"].shape == (2, 30, 12, 2)
    assert tree["observed_data"]["x"].shape == (12, 8, 8)
    assert (tree.attrs["data"], tree.attrs["split"], tree.attrs["samples"]) == ("digits", "test", 3000)


def test_a_new_run_in_the_folder_takes_the_old_analysis_away(analysed, tmp_path):
    shutil.copytree(analysed, tmp_path / "run")
    train(tmp_path / "run", data="digits", latent=2, hidden=20, samples=100, overwrite=True, progress=False)
    assert not (tmp_path / "run/analysis").exists()
    assert not (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draws", "3"), "--draws 3 is not possible: give a whole number from 4"),
        (("--chains", "1"), "--chains 1 is not possible"),
        (("--limit", "none"), "--limit none is not possible"),
        (("--marginal", "nothing"), "--marginal nothing is unknown: choose from ais"),
        (("--split", "valid"), "'valid' is not one of"),
    ],
)
def test_wrong_input_is_answered_with_one_line(analysed, cli, options, message):
    result = cli("analyze", analysed, *options)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_a_folder_that_is_no_run_is_refused(cli):
    result = cli("analyze", "nowhere")
    assert (result.status, "nowhere is not a run folder" in result.err) == (2, True)


def test_a_run_without_a_guide_is_analysed(cli, monkeypatch):
    monkeypatch.setattr("pyro_vae.analysis.analyze._SIMULATIONS", 20)
    monkeypatch.setattr("pyro_vae.analysis.analyze._TRANSITIONS", 20)
    train("mcem", data="digits", inference="mcem", latent=2, hidden=10, train_size=100, samples=1500, progress=False)
    result = cli("analyze", "mcem", *TINY, "--zarr", "--json")
    assert result.status == 0
    summary = json.loads(result.out)
    assert "guide" not in summary
    assert set(summary["calibration"]) == {"hmc"}
    assert "bound" not in summary["gaps"]
    assert math.isfinite(summary["gaps"]["local_bound"])
    assert "guide_posterior" not in az.from_zarr("mcem/analysis/draws.zarr").children
    report = Path("mcem/report.html").read_text()
    assert "its algorithm walks on the posterior itself" in report


def test_verdicts_follow_the_numbers(analysed):
    summary = json.loads((analysed / "analysis/summary.json").read_text())

    def verdict(question, part, **changes):
        changed = {**summary, part: {**summary[part], **changes}}
        return [found.verdict for found in findings(changed) if found.question == question]

    assert verdict("guide", "guide", khat_over_0_7=0.01)[0] == "good"
    assert verdict("guide", "guide", khat_over_0_7=0.9)[0] == "poor"
    good, poor = ({"q95": value, "max": value} for value in (1.005, 1.2))
    assert verdict("sampler", "sampler", rhat=good)[0] == "good"
    assert verdict("sampler", "sampler", rhat=poor)[0] == "poor"
    assert "poor" in verdict("sampler", "sampler", divergences=3, rhat=good)


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

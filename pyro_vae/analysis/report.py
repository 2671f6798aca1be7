"""An analysis as one page of HTML that holds everything it shows, for a person to read from top to bottom."""

__all__ = ["write_report"]

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pyro_vae.analysis.analyze import Analysis
from pyro_vae.analysis.report_plots import Picture, draw_all
from pyro_vae.analysis.verdicts import Finding, findings
from pyro_vae.run.folder import ANALYSIS, REPORT, replace_file
from pyro_vae.run.run import Run
from pyro_vae.run.settings import pixels

# Nothing is loaded from anywhere: the browser is told so.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 0 auto;
  padding: 1rem; }}
h1, h2 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ccc; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 1.5rem 0; }}
figcaption, .note {{ color: #555; font-size: .9rem; }}
.table {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #eee; vertical-align: top; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
ul {{ padding-left: 1.2rem; }}
code, pre {{ font-size: .9rem; }}
pre {{ overflow-x: auto; background: #f6f6f6; padding: .8rem; }}
.verdict {{ font-weight: 600; padding: 0 .4rem; border-radius: .2rem; }}
.good {{ background: #d8f0dc; color: #14532d; }}
.fair {{ background: #fdf0c8; color: #614700; }}
.poor {{ background: #fbdcdc; color: #7f1d1d; }}
</style>
</head>
<body>
"""

_CAPTIONS = {
    "images": "Data, their reconstruction as the posterior mean of p(x|z), a draw from the posterior predictive, and a "
    "draw from the prior predictive, which knows nothing of the data above it.",
    "predictive": "The mean value of a datapoint: its distribution over the data (black) and over replications that "
    "the model predicts. A good model's replications cover the data.",
    "calibration": "Values whose predicted mean is 0.3 should be 0.3 on average. The latent variables have seen these "
    "values, so this judges the decoder, not how well it predicts unseen ones.",
    "latents": "How much each latent variable says of the data.",
    "rhat": "By datapoint: R-hat, with 1.01 marked, and the effective number of draws, of its worst latent variable.",
    "rank": "The datapoint with the largest R-hat: ranks of each chain among all draws, less what is expected; p is "
    "that of the test that the chains are alike.",
    "trace": "The same datapoint: marginal distributions and chains.",
    "energy": "The same datapoint: energies and their changes from one draw to the next should be spread alike.",
    "khat": "Pareto k-hat of the guide's importance weights, by datapoint; 0.7 is the limit of what can be trusted.",
    "gaps": "What separates the bound from log p(x), by datapoint. Negative values are Monte Carlo error, or a "
    "Gaussian that was fitted less well than the guide's.",
    "against": "Each point is one latent variable of one datapoint. Points below the line on the right are intervals "
    "that are too narrow.",
    "pit_hmc": "HMC on simulated data: the ranks of the true latent variables, less what is expected, for the least "
    "uniform ones.",
    "pit_guide": "The guide on the same simulated data. A slope through the middle is a wrong width, an arch a bias.",
}


def write_report(run: Run, analysis: Analysis) -> Path:
    """Writes `report.html` into the run folder; returns its path."""
    found = findings(analysis.summary)
    pictures = draw_all(analysis)
    page = "".join(_page(run, analysis.summary, found, pictures))
    path = run.path / REPORT
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))
    return path


def _page(run: Run, summary: dict[str, Any], found: Sequence[Finding], pictures: dict[str, Picture]) -> Iterable[str]:
    about = summary["run"]

    def answers(question: str) -> str:
        return _answers(f for f in found if f.question == question)

    def plots(*names: str) -> str:
        return "".join(_figure(pictures[name], _CAPTIONS[name]) for name in names if name in pictures)

    title = f"{Path(run.settings.data).stem}: {about['model']} and {about['guide'] or 'no guide'}"
    yield _HEAD.format(title=escape(title))
    yield f"<h1>{escape(title)}</h1>"
    yield _verdict_line(found)
    yield "<h2>What was run</h2>" + _settings(run, about)
    yield "<h2>Does the model fit?</h2>" + answers("fit") + plots("images") + _checks(summary["fit"]["checks"])
    yield plots("predictive", "calibration", "latents")
    yield "<h2>Are the posterior draws right?</h2>"
    yield "<p>All that is said of the guide below rests on draws by Hamiltonian Monte Carlo. They come first.</p>"
    yield answers("sampler") + plots("rhat", "rank", "trace", "energy", "pit_hmc")
    yield f"<p class='note'>Largest R-hat at the datapoints {_list(summary['sampler']['worst_rhat'])}.</p>"
    yield "<h2>Is the guide trustworthy?</h2>"
    if "guide" in summary:
        yield answers("guide") + _guide(summary) + plots("khat", "gaps", "against", "pit_guide")
        yield f"<p class='note'>Largest k-hat at the datapoints {_list(summary['guide']['worst_khat'])}.</p>"
    else:
        yield "<p>The run has none: its algorithm walks on the posterior itself.</p>"
    yield "<h2>What to do next</h2>" + _advice(found) + _files()
    yield "</body>\n</html>\n"


def _verdict_line(found: Sequence[Finding]) -> str:
    names = {"fit": "fit", "sampler": "posterior draws", "guide": "guide"}
    order = ("good", "fair", "poor")
    lines = []
    for question, name in names.items():
        verdicts = [f.verdict for f in found if f.question == question]
        if verdicts:
            worst = max(verdicts, key=order.index)
            lines.append(f"{name} <span class='verdict {worst}'>{worst}</span>")
    return f"<p>{', '.join(lines)}</p>"


def _settings(run: Run, about: dict[str, Any]) -> str:
    *_, test_bound = run.metrics[-1]
    rows = {
        "data": f"{run.dataset.name}, {about['split']} split, the first {about['datapoints']:,} datapoints",
        "pixels": pixels(about["binarize"]),
        "model": f"{about['model']}, {about['latent']} latent variables, weights {about['weights']}",
        "guide": about["guide"] or "none",
        "trained by": f"{run.settings.inference}, {about['samples']:,} samples, test bound {test_bound:.2f} nats",
        "posterior draws": f"{about['chains']} chains of {about['draws']:,} after {about['warmup']:,} transitions",
        "seed": about["seed"],
        "versions": f"pyro {about['inference_library_version']}, ArviZ {about['creation_library_version']}",
        "time": f"{about['seconds']:,.0f} s",
    }
    note = ""
    if about["binarize"] == "none" and run.settings.model == "bernoulli":
        note = (
            "<p class='note'>Grey pixels under a Bernoulli likelihood are not a probability of the data: these nats "
            "may be compared with others of their kind only.</p>"
        )
    return _table([], rows.items()) + note


def _checks(checks: Sequence[dict[str, Any]]) -> str:
    rows = [
        (c["group"].replace("_", " "), c["statistic"], *(f"{c[key]:.4f}" for key in ("observed", "mean", "sd", "p")))
        for c in checks
    ]
    return _table(["replications", "statistic", "data", "mean", "s.d.", "p"], rows, numbers=4)


def _guide(summary: dict[str, Any]) -> str:
    names = {
        "khat": "Pareto k-hat",
        "importance_ess": "effective share of importance weights",
        "shift": "largest shift of a mean (posterior s.d.)",
        "scale": "s.d. of the guide / of the posterior",
        "wasserstein": "largest Wasserstein distance (posterior s.d.)",
        "kl": "KL(guide | posterior) of Gaussians (nats)",
    }
    columns = ("min", "q05", "median", "q95", "max")
    rows = [
        (text, *("" if (v := summary["guide"][name][c]) is None else f"{v:.3f}" for c in columns))
        for name, text in names.items()
    ]
    heads = ["by datapoint", "least", "5 %", "median", "95 %", "greatest"]
    gaps = summary["gaps"]
    nats = {
        "bound": "bound",
        "local_bound": "bound of a Gaussian fitted to each datapoint",
        "log_px": f"log p(x) by {gaps['estimator']}",
    }
    totals = [
        (text, *("" if gaps[key] is None else f"{gaps[key]:.3f}" for key in (name, f"{name}_se")))
        for name, text in nats.items()
    ]
    return _table(["nats per datapoint", "mean", "s.e."], totals, numbers=2) + _table(heads, rows, numbers=5)


def _advice(found: Sequence[Finding]) -> str:
    advice = list(dict.fromkeys(f.advice for f in found if f.advice))
    if not advice:
        return "<p>Nothing here asks for a change.</p>"
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in advice)}</ul>"


def _files() -> str:
    code = f"import arviz as az\ntree = az.from_netcdf('{ANALYSIS}/draws.nc')\naz.summary(tree.sel(datapoint=0))"
    return (
        f"<p>All draws lie in <code>{ANALYSIS}/draws.nc</code>, or <code>draws.zarr</code>, the numbers by datapoint "
        f"in <code>{ANALYSIS}/datapoints.csv</code>, by latent variable in <code>latents.csv</code>, and those of this "
        f"page in <code>summary.json</code>. ArviZ reads the draws:</p><pre>{escape(code)}</pre>"
        "<p class='note'><code>az.loo</code> of <code>log_likelihood</code> is no measure of the model: a datapoint "
        "that is left out takes its latent variables with it, and what remains is a harmonic mean, as k-hat will say. "
        "log p(x) of held-out data, above, is the leave-one-out density.</p>"
    )


def _answers(found: Iterable[Finding]) -> str:
    items = (f"<li><span class='verdict {f.verdict}'>{f.verdict}</span> {escape(f.text)}</li>" for f in found)
    return f"<ul>{''.join(items)}</ul>"


def _figure(picture: Picture, caption: str) -> str:
    data = b64encode(picture).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>\n'


def _table(heads: Sequence[str], rows: Iterable[Iterable[Any]], numbers: int = 0) -> str:
    """A table whose last columns are numbers."""

    def row(cells: Sequence[Any], tag: str) -> str:
        first = len(cells) - numbers
        kinds = (" class='number'" if n >= first else "" for n in range(len(cells)))
        filled = zip(kinds, cells, strict=True)
        return "<tr>" + "".join(f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in filled) + "</tr>"

    head = row(heads, "th") if heads else ""
    body = "".join(row(list(cells), "td") for cells in rows)
    return f"<div class='table'><table>{head}{body}</table></div>"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

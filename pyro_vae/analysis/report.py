"""An analysis as one page of HTML that holds everything it shows, for a person to read from top to bottom."""

__all__ = ["write_report"]

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pyro_vae.analysis.analyze import Analysis
from pyro_vae.analysis.report_plots import draw_all, image_rows
from pyro_vae.analysis.verdicts import Finding, findings
from pyro_vae.run.folder import ANALYSIS, REPORT, read_record, replace_file
from pyro_vae.run.run import Run

_GLOSSARY = {
    "bound": "the evidence lower bound (ELBO) of log p(x), in nats per datapoint; higher is better",
    "nats": "natural logarithms of probabilities or densities, summed over the values of a datapoint and its latent "
    "variables",
    "p": "the share of replications whose statistic is above that of the data, those equal to it counted half: 0 or 1 "
    "says that the data are beyond all replications. Posterior replications have seen the data and are lenient; prior "
    "replications have not",
    "R-hat": "how much wider all chains together are than each of them; above 1.01 they do not yet agree",
    "effective draws": "as many independent draws would say as much; bulk is of the middle, tail of the ends",
    "divergence": "a transition that left the surface of its energy: the posterior has corners there",
    "Pareto k-hat": "the weight of the tail of importance weights p(x, z) / q(z|x); above 0.7 their mean is not to be "
    "trusted",
    "gap": "log p(x) less the bound: KL(q(z|x) | p(z|x)). The approximation gap is what no diagonal Gaussian reaches, "
    "the amortisation gap what one network for all datapoints costs",
    "simulation-based calibration": "z and x are drawn from the model; where a sampler is right, the true z ranks "
    "uniformly among its draws given x",
    "coverage": "the share of data inside a predictive interval, which a right model's share is the interval's own of",
    "known apart": "the share of draws that a classifier knows from those of another sampler, on draws that it has not "
    "learnt from: 50 % is chance, 100 % has nothing in common",
    "PIT": "the share of draws below the true value, a number from 0 to 1",
    "s.d., s.e.": "standard deviation; standard error of the Monte Carlo draws",
}

_MEASURES = {
    "mass": "a probability of the data",
    "density": "a density of the data, which is not bounded by 1",
    "relaxed": "the formula for values of 0 and 1, on grey ones",
}
_NO_GUIDE = "The run has none: its algorithm walks on the posterior itself."


def write_report(run: Run, analysis: Analysis) -> Path:
    """Writes `report.html` into the run folder; returns its path."""
    pages = Environment(
        loader=PackageLoader("pyro_vae.analysis", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters["base64"] = lambda data: b64encode(data).decode()
    page = pages.get_template("report.html.j2").render(_content(run, analysis))
    path = run.path / REPORT
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))
    return path


def _content(run: Run, analysis: Analysis) -> dict[str, Any]:
    """What the template shows, by the names it has there."""
    summary = analysis.summary
    found, about = findings(summary), summary["run"]
    several = len({row["site"] for row in summary["fit"]["checks"]}) > 1
    return {
        "title": f"{Path(run.settings.data).stem}: {about['model']} and {about['guide'] or 'no guide'}",
        "verdicts": _verdicts(found),
        "findings": found,
        "advice": list(dict.fromkeys(f.advice for f in found if f.advice)),
        "settings": _settings(run, about),
        "relaxed": about["measure"] == "relaxed",
        "left_out": list(summary["left_out"].items()),
        "strips": image_rows(analysis, run.dataset.ink),
        "pictures": draw_all(analysis, run.metrics),
        "check_heads": ["replications", *(["site"] if several else []), "statistic", "data", "mean", "s.d.", "p"],
        "checks": [_check(row, several) for row in summary["fit"]["checks"]],
        "worst_rhat": ", ".join(map(str, summary["sampler"]["worst_rhat"])),
        "has_guide": "guide" in summary,
        "no_guide": _NO_GUIDE if run.guide is None else "It is a point and has no density to hold against HMC's draws.",
        "worst_khat": ", ".join(map(str, summary["guide"]["worst_khat"])) if "guide" in summary else "",
        "nats": _nats(summary["gaps"]) if "gaps" in summary else [],
        "guide_rows": _guide(summary["guide"]) if "guide" in summary else [],
        "folder": ANALYSIS,
        "glossary": list(_GLOSSARY.items()),
    }


def _verdicts(found: Sequence[Finding]) -> list[tuple[str, str]]:
    """The worst verdict on each question."""
    order = ("good", "fair", "poor")
    names = {"fit": "fit", "sampler": "posterior draws", "guide": "guide"}
    verdicts = {name: [f.verdict for f in found if f.question == question] for question, name in names.items()}
    return [(name, max(each, key=order.index)) for name, each in verdicts.items() if each]


def _settings(run: Run, about: dict[str, Any]) -> list[tuple[str, Any]]:
    trained = run.settings.inference
    if run.rows:
        *_, test_bound = run.rows[-1]
        trained += f", {about['samples']:,} samples, test bound {test_bound:.2f} nats per datapoint"
    rows = {
        "data": f"{run.dataset.name}, {about['split']} split, the first {about['datapoints']:,} datapoints",
        run.dataset.cells[0]: run.dataset.cells[1],
        "likelihood": _MEASURES.get(about["measure"], f"a probability {about['measure']}") + ", in nats",
        "model": f"{about['model']}, {about['latent']} latent variables, weights {about['weights']}",
        "guide": about["guide"] or "none",
        "trained by": trained,
        "command": read_record(run.path).get("command", "unknown"),
        "posterior draws": f"{about['chains']} chains of {about['draws']:,} after {about['warmup']:,} transitions",
        "analysed by": about["command"],
        "date": f"{about['created_at'][:16].replace('T', ' ')} UTC",
        "seed": about["seed"],
        "versions": f"pyro {about['inference_library_version']}, ArviZ {about['creation_library_version']}",
        "time": f"{about['seconds']:,.0f} s",
    }
    return list(rows.items())


def _check(row: dict[str, Any], several: bool) -> list[str]:
    numbers = [f"{row[key]:.4f}" for key in ("observed", "mean", "sd", "p")]
    return [row["group"].replace("_", " "), *([row["site"]] if several else []), row["statistic"], *numbers]


def _nats(gaps: dict[str, Any]) -> list[list[str]]:
    names = {
        "bound": "bound",
        "local_bound": "bound of a Gaussian fitted to each datapoint",
        "log_px": f"log p(x) by {gaps['estimator']}",
    }
    return [
        [text, *(_number(gaps[key]) for key in (name, f"{name}_se"))] for name, text in names.items() if name in gaps
    ]


def _guide(guide: dict[str, Any]) -> list[list[str]]:
    names = {
        "khat": "Pareto k-hat (no unit)",
        "importance_ess": "effective share of importance weights",
        "shift": "largest shift of a mean (posterior s.d.)",
        "scale": "s.d. of the guide / of the posterior",
        "wasserstein": "largest Wasserstein distance (posterior s.d.)",
        "kl": "KL(guide | posterior) of Gaussians (nats)",
    }
    columns = ("min", "q05", "median", "q95", "max")
    return [[text, *(_number(guide[name][column]) for column in columns)] for name, text in names.items()]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"

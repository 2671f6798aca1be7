"""What the numbers of an analysis mean, in words: a finding for each question, and what to do about it."""

__all__ = ["Finding", "findings"]

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """An answer to one question.

    Arguments:
        question: `sampler`, `guide` or `fit`.
        verdict: `good`, `fair` or `poor`.
        text: What was found.
        advice: What to do about it, empty where nothing is to be done.
    """

    question: str
    verdict: str
    text: str
    advice: str = ""


def findings(summary: dict[str, Any]) -> list[Finding]:
    """Judges the summary of an analysis by the thresholds of the literature, which each text names.

    Arguments:
        summary: The numbers that `summary.json` holds.
    """
    found = [*_sampler(summary["sampler"])]
    ranks = summary.get("calibration", {})
    if "hmc" in ranks:
        found.append(_ranks("HMC", "sampler", ranks["hmc"]))
    if "at_data" in ranks:
        found.append(_ranks("HMC, beginning at the data,", "sampler", ranks["at_data"]))
    if "guide" in summary:
        found += _guide(summary["guide"])
    if "gap" in summary.get("gaps", {}):
        found.append(_gap(summary["gaps"]))
    if "guide" in ranks:
        found.append(_ranks("The guide", "guide", ranks["guide"]))
    return [*found, *_fit(summary["fit"], summary["run"]), *([_loo(summary["loo"])] if "loo" in summary else [])]


def _sampler(s: dict[str, Any]) -> list[Finding]:
    if (high := s["rhat"]["q95"]) is None:
        text = "R-hat is unknown: the chains have too few draws, or do not move."
        return [Finding("sampler", "poor", text, "Give more --warmup and --draws.")]
    text = (
        f"R-hat is at most {high:.3f} for 95 % of the datapoints, {s['rhat']['max']:.3f} for the worst; the least "
        f"effective number of draws is {s['ess_bulk']['q05']:,.0f} or more for 95 % of them."
    )
    if high <= 1.01:
        verdict, advice = "good", ""
    elif high <= 1.05:
        verdict, advice = "fair", "For the tails of single datapoints, give --draws 2000."
    else:
        verdict = "poor"
        advice = "The chains do not agree: give more --warmup and --draws before you believe what rests on them."
    found = [Finding("sampler", verdict, text, advice)]
    if s["divergences"]:
        text = f"{s['divergences']:,} transitions diverged: the posterior has corners that the chains do not enter."
        found.append(Finding("sampler", "poor", text, "Look at the datapoints with divergences in datapoints.csv."))
    return found


def _ranks(who: str, question: str, c: dict[str, Any]) -> Finding:
    text = (
        f"{who} on {c['simulations']} simulated datapoints: the ranks of {c['latents'] - c['rejected']} of "
        f"{c['latents']} latent variables are uniform (all tests together at 1 %)."
    )
    if not c["rejected"]:
        return Finding(question, "good", text)
    advice = {
        "sampler": "HMC misses parts of the posterior of simulated data: give more --warmup.",
        "guide": "The guide errs on data that the model itself makes: its intervals are not posterior intervals.",
    }[question]
    return Finding(question, "poor", text, advice)


def _guide(g: dict[str, Any]) -> list[Finding]:
    share = g["khat_over_0_7"]
    text = (
        f"Pareto k-hat exceeds 0.7 for {share:.0%} of the datapoints: there the guide misses mass of the posterior, "
        "and importance-weighted estimates cannot be trusted."
    )
    verdict = "good" if share < 0.05 else "fair" if share < 0.3 else "poor"
    advice = "" if verdict == "good" else "Estimate log p(x) with --marginal ais, which needs no guide."
    found = [Finding("guide", verdict, text, advice)]
    apart = g["known_apart"]
    text = (
        f"By all latent variables together, a classifier knows the guide's draws from HMC's in {apart:.0%} of cases, "
        f"at {g['known_apart_of']} datapoints; 50 % is chance."
    )
    found.append(Finding("guide", "good" if apart < 0.6 else "fair" if apart < 0.75 else "poor", text))
    scale, shift = g["scale"]["median"], g["shift"]["median"]
    if scale is None or shift is None:
        text = "There are fewer draws than it takes to hold the guide's means and standard deviations against HMC's."
        return [*found, Finding("guide", "fair", text, "Give more --draws.")]
    text = (
        f"Against HMC the guide's standard deviations are {scale:.2f} of the posterior's in the median, its means off "
        f"by {shift:.2f} of them at the worst latent variable."
    )
    verdict = "good" if 0.9 < scale < 1.1 and shift < 0.3 else "fair" if 0.7 < scale < 1.4 and shift < 1 else "poor"
    advice = "" if verdict == "good" else "Use HMC's draws, not the guide's, where an interval matters."
    return [*found, Finding("guide", verdict, text, advice)]


def _gap(gaps: dict[str, Any]) -> Finding:
    gap, amortisation, approximation = (gaps[f"{name}gap"] for name in ("", "amortisation_", "approximation_"))
    if gap is None:
        return Finding("guide", "poor", "The gap between bound and log p(x) is not finite: one of the two is not.")
    text = (
        f"The bound {gaps['bound']:.2f} lies {gap:.2f} nats below log p(x) = {gaps['log_px']:.2f} "
        f"({gaps['estimator']}): {approximation:.2f} because no diagonal Gaussian is the posterior, "
        f"{amortisation:.2f} because one network serves all datapoints."
    )
    if gap < 0.5:
        return Finding("guide", "good", text)
    if amortisation > approximation:
        return Finding("guide", "fair", text, "A larger guide (more --hidden) or longer training has most to give.")
    return Finding("guide", "fair", text, "A more flexible family of guides has most to give.")


def _loo(loo: dict[str, Any]) -> Finding:
    share = loo["khat_over_0_7"]
    text = (
        f"Left out one by one, {loo['datapoints']:,} training datapoints have {loo['elpd']:.2f} nats (s.e. "
        f"{loo['se']:.2f}), {loo['lost']:.2f} less than they have within the data, averaged over the weights; k-hat "
        f"exceeds 0.7 for {share:.0%} of them. "
        + ("Draws of q count by posterior / q." if loo["corrected"] else "Draws of q are taken for the posterior's.")
    )
    if share < 0.05:
        return Finding("fit", "good", text)
    return Finding(
        "fit", "fair", text, "Judge the weights by test data: leaving out data by PSIS is not to be trusted."
    )


def _coverage(named: str, shares: dict[str, Any], relaxed: bool) -> Finding:
    prior, posterior = shares["prior_predictive"], shares["posterior_predictive"]
    if prior["mean"] is None or posterior["mean"] is None:
        return Finding("fit", "fair", f"All cells{named} are missing: no interval can be held against them.")
    text = (
        f"Intervals of 90 % that the prior predicts hold {prior['mean']:.0%} of the data{named}, from "
        f"{prior['q05']:.0%} to {prior['q95']:.0%} for nine tenths of the cells; those of the posterior, which has "
        f"seen them, {posterior['mean']:.0%}."
    )
    if 0.85 < prior["mean"] < 0.95:
        return Finding("fit", "good", text)
    if relaxed:
        return Finding("fit", "fair", f"{text} Grey data lie between predictions of 0 and 1.")
    return Finding("fit", "fair", text, "Where intervals hold too few or too many of the data, try another likelihood.")


def _fit(fit: dict[str, Any], run: dict[str, Any]) -> list[Finding]:
    off = [c for c in fit["checks"] if not 0.01 <= c["p"] <= 0.99]
    several = len({c["site"] for c in fit["checks"]}) > 1
    parts = []
    for group in ("posterior", "prior"):
        rows = [c for c in fit["checks"] if c["group"] == f"{group}_predictive"]
        wrong = [f"{c['statistic']} of '{c['site']}'" if several else c["statistic"] for c in rows if c in off]
        count = f"{len(rows) - len(wrong)} of {len(rows)} statistics are what the {group} predicts"
        parts.append(count + (f" (not so: {', '.join(wrong)})" if wrong else ""))
    text = f"{'; '.join(parts)}."
    advice = ""
    if off and run["measure"] == "relaxed":
        text += " The data are grey and the predictions are 0 or 1, so that all spreads must differ."
        advice = "For checks of the spread, train with --binarize dynamic or static."
    elif off:
        advice = "Look at where data and predictions differ before you trust what the model generates."
    found = [Finding("fit", "good" if not off else "fair", text, advice)]
    for site, shares in fit["coverage"].items():
        found.append(_coverage(f" of '{site}'" if several else "", shares, run["measure"] == "relaxed"))
    for site, error in fit["calibration_error"].items():
        named = f" of '{site}'" if several else ""
        text = f"Predicted means{named} are off by {error:.3f}, in units of the data, on average over ten bins."
        found.append(Finding("fit", "good" if error < 0.02 else "fair", text))
    idle = fit["latents"] - fit["active_latents"]
    text = f"{fit['active_latents']} of {fit['latents']} latent variables are active."
    advice = f"{idle} latent variables say nothing of the data: fewer would do." if idle else ""
    found.append(Finding("fit", "good" if not idle else "fair", text, advice))
    return found

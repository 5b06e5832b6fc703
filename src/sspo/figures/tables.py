"""What stands in the tables: benchmarks, the 2 x 2, tuning, settings and outcomes (T1 to T5)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from numpy import nan
from pandas import Categorical, DataFrame, Series, concat, isna

from sspo.config.names import BASE
from sspo.evidence.intervals import Interval, mean_interval
from sspo.figures import inputs
from sspo.figures.inputs import Frames, Methods, made_from
from sspo.figures.markup import Table

EFFECTS = ["area", "drawdown", "test_pass@1", "test_greedy", "hard_pass@1"]
CONTRASTS = ["level", "gate", "interaction"]
TIE = 2.0  # points: trials that are closer to the best one are told apart by chance
OUTCOMES = ["area", "late_rise", "test_pass@1", "hard_pass@1", "drawdown", "collapsed",
            "final_entropy", "final_kl", "test_response_tokens", "test_truncated", "drift",
            "grpo_clip_share", "sequence_weight_distance", "engine_logprob_gap_mean"]  # fmt: skip


@made_from(evaluations=("run", "method", "regime", *inputs.PAIR, "split", "metric", "value", "low",
                        "high"))  # fmt: skip
def tabulate_benchmarks(frames: Frames, methods: Methods) -> Table:
    """T1: accuracy in % over all base models, by regime, split and method, and paired differences."""
    evaluations = frames["evaluations"]
    metrics = shown_metrics(evaluations["metric"])
    reference = inputs.reference_of(m for m in methods if (evaluations["method"] == m).any())
    before = evaluations["method"] == BASE
    trained = evaluations[~before] if not before.all() else evaluations
    several = trained["regime"].nunique() > 1
    lines = []
    for (regime, split), part in trained.groupby(["regime", "split"], sort=False):
        # Base models have no regime: each stands beside the runs that started from it.
        started = before & (evaluations["split"] == split) & evaluations["base"].isin(part["base"])
        part = concat([evaluations[started & ~evaluations.index.isin(part.index)], part])
        for method in {**inputs.CONTROLS, **methods}:
            rows = part[part["metric"].isin(metrics) & (part["method"] == method)]
            if rows.empty:
                continue
            line = {
                "split": f"{regime}: " * several + split.replace("_", " "),
                "method": inputs.method_label(method, methods),
                "n": rows["run"].nunique(),
            }
            for name in metrics:
                line[name] = accuracy(rows[rows["metric"] == name])
            other = inputs.method_label(reference, methods)
            for name in metrics[:2]:
                chosen = part[part["metric"] == name]
                line[f"{name} \N{MINUS SIGN} {other}"] = paired_difference(
                    chosen, method, reference
                )
            lines.append(line)
    values = DataFrame(lines)
    return Table(
        "Accuracy after training",
        "% of problems, mean over base models and seeds; n: runs. One base model: [95 % t interval over "
        "seeds, cut at 0 and 100]; one run: [interval over problems]. Differences: in points [95 % t "
        "interval over pairs of one base model and seed, not adjusted]. Bold: interval above all others of "
        "the section." + left_out(evaluations),
        values,
        bold=values.groupby("split")[metrics].transform(stands_out),
        formats={"": ".1f", **{name: "+.1f" for name in values if "\N{MINUS SIGN}" in name}},
    )


def paired_difference(rows: DataFrame, method: str, reference: str) -> Interval:
    """One method's accuracy minus another's in points, over pairs of base model and seed.

    Args:
        rows: one row per run, of one metric, split and regime.
        method: may be the reference itself, a base model, or have no pairs; then all is NaN.
        reference: what is subtracted.
    """
    both = rows[rows["method"].isin([method, reference])].dropna(subset="value")
    if method in (reference, BASE) or both["method"].nunique() < 2:
        return Interval(nan, nan, nan)
    values = both.pivot(index=inputs.PAIR, columns="method", values="value")
    differences = (values[method] - values[reference]).dropna()
    return mean_interval(100.0 * differences) if len(differences) else Interval(nan, nan, nan)


def left_out(evaluations: DataFrame) -> str:
    """A sentence on the problems that no model was asked, where there are any; begins with a space."""
    if "left_out" not in evaluations:
        return ""
    counts = evaluations.dropna(subset="left_out").groupby("split", sort=False)["left_out"].max()
    names = [f"{split.replace('_', ' ')} {count:.0f}" for split, count in counts.items()]
    return f" Left out, as their prompts fill the context: {', '.join(names)}." if names else ""


def shown_metrics(names: Iterable[str]) -> list[str]:
    """pass@1, greedy, then pass@k and maj@k of the largest k, as far as they were measured.

    Raises:
        ValueError: none of them was.
    """
    shares = {name: int(name.split("@")[1]) for name in names if "@" in name}
    largest = {name.split("@")[0]: name for name in sorted(shares, key=lambda name: shares[name])}
    wanted = dict.fromkeys(["pass@1", "greedy", largest.get("pass"), largest.get("maj")])
    found = [name for name in wanted if name in set(names)]
    if not found:
        raise ValueError("evaluations hold none of pass@1, greedy, pass@k, maj@k; evaluate again")
    return found


def accuracy(rows: DataFrame) -> Interval:
    """One method's mean and interval on one metric of one split in %, NaN without a value.

    Of several runs it is the t interval over them, of a single one its own over problems. Runs of several
    base models have none: such runs are alike in pairs, so only their differences have an interval.

    Args:
        rows: one row per run, with ``value``, ``low`` and ``high``.
    """
    rows = rows.dropna(subset="value")
    if rows.empty:
        return Interval(nan, nan, nan)
    single = rows.iloc[0][["value", "low", "high"]].astype(float)
    interval = single if len(rows) == 1 else mean_interval(rows["value"])
    if rows["base"].nunique() > 1:
        interval = (interval[0], nan, nan)
    return Interval(*(100.0 * _cut(end) for end in interval))


def _cut(share: float) -> float:
    return share if isna(share) else min(max(share, 0.0), 1.0)


def stands_out(intervals: Series) -> Series:
    """Whether an interval lies above every other one, of which there is at least one."""
    known = [interval for interval in intervals if interval.mean == interval.mean]
    return intervals.map(
        lambda one: len(known) > 1 and all(one is other or one.low > other.high for other in known)
    )


@made_from(factorial=("measure", "regime", "sspo", "sequence_hard", "contrast", "n",
                                  "effect", "low", "high"))  # fmt: skip
def tabulate_factorial(frames: Frames, methods: Methods) -> Table:
    """T2: main effects of level and gate, and their interaction, with intervals over paired runs."""
    rows = frames["factorial"]
    rows = rows[rows["measure"].isin(EFFECTS)]
    rows = rows[rows["n"] > 0] if (rows["n"] > 0).any() else rows
    points = 100.0 * rows[["effect", "low", "high"]].astype(float)
    rows = rows.assign(points=[Interval(*ends) for ends in points.to_numpy()])
    several = rows["regime"].nunique() > 1
    keys = ["regime", "sspo", "measure", "sequence_hard", "n", "contrast"]
    cells = rows.set_index(keys)["points"]
    values = cells.unstack(sort=False)[CONTRASTS].reset_index()
    values["measure"] = Categorical(values["measure"], EFFECTS)
    values = values.sort_values(["regime", "sspo", "measure"], kind="stable", ignore_index=True)
    values["measure"] = values["measure"].astype(str)
    regimes = values.pop("regime")
    values["sspo"] = "sequence-soft: " + _labels(values["sspo"], methods)
    if several:
        values["sspo"] = regimes + ": " + values["sspo"]
    values["sequence_hard"] = _labels(values["sequence_hard"], methods)
    values["measure"] = values["measure"].str.replace("_", " ")
    return Table(
        "The 2 x 2 of level and gate",
        "Effect in points (0.01) [95 % t interval over paired runs], not adjusted, positive is better: "
        "level is sequence minus token, gate soft minus hard, interaction what the soft gate gains "
        "more at sequence level. Token-hard: GRPO; token-soft: SAPO. n: pairs (base model and seed). "
        "Area under the validation curve, its worst drawdown.",
        values.rename(columns={"sspo": "sequence-soft", "sequence_hard": "sequence-hard"}),
        formats={"": "+.1f"},
    )


@made_from(trials=inputs.TRIAL)
def tabulate_tuning(frames: Frames, methods: Methods) -> Table:
    """T3: every tuning trial, its validation accuracy, and what was chosen."""
    trials = frames["trials"]
    trials = trials.assign(
        method=_labels(trials["method"], methods),
        parameters=trials["params"].map(inputs.short_params),
        score=100.0 * trials["score"],
    )
    best = trials["score"].where(trials["chosen"]).groupby([trials["regime"], trials["method"]])
    trials["tie"] = (best.transform("max") - trials["score"] < TIE) & ~trials["chosen"].astype(bool)
    several = trials["regime"].nunique() > 1
    rows = [*(["regime"] if several else []), "method", "parameters"]
    cells = trials.set_index([*rows, "learning_rate"])[["score", "chosen", "tie"]]
    wide = (
        cells.unstack(sort=False).sort_index(axis="columns").rename(columns="{:g}".format, level=1)
    )
    return Table(
        "Tuning trials",
        "Columns: learning rate. Validation pass@1 in %, mean over training and over the runs of a trial. "
        f"Bold: chosen. Italic: less than {TIE:g} points behind it, a tie.",
        wide["score"].reset_index(),
        bold=wide["chosen"].reset_index(drop=True),
        italic=wide["tie"].reset_index(drop=True),
        formats={"": ".1f"},
    )


@made_from(settings=("method", "key", "value", "source"))
def tabulate_settings(frames: Frames, methods: Methods) -> Table:
    """T4: every hyperparameter, its value, and where it comes from."""
    settings = frames["settings"][["method", "key", "value", "source"]].fillna("").astype(str)
    labels = _labels(settings["method"], methods).replace("", "all methods")
    values = settings.assign(method=labels).rename(columns={"key": "setting"})
    return Table("Settings and their sources", "", values)


@made_from(runs=(*inputs.RUN, *OUTCOMES))
def tabulate_outcomes(frames: Frames, methods: Methods) -> Table:
    """T5: what every method came to in every regime, means over runs."""
    runs = frames["runs"]
    groups = runs.groupby(["regime", "method"])
    means = groups[OUTCOMES].mean()
    means.insert(0, "n", groups.size())
    order = [(r, m) for r in runs["regime"].unique() for m in methods if (r, m) in means.index]
    values = means.loc[order].reset_index()
    values["method"] = _labels(values["method"], methods)
    names = values.columns.str.replace("_", " ")
    values.columns = names.str.replace("kl", "KL").str.replace("grpo", "GRPO")
    return Table(
        "Outcomes by regime",
        "Means over n runs. Area under the validation curve, and how much its second half still rose; "
        "pass@1 on test and hard; drawdown of the validation curve; collapsed: share of runs; entropy and "
        "KL to the initial policy at the end, nats per token; tokens per test response and share "
        "truncated; drift: root mean square log-ratio, nats; GRPO clip share: share of tokens that GRPO's "
        "clip of 0.2 would cut off, whatever the method; sequence weight distance: mean |weight - 1| of "
        "the method's own weights; engine logprob gap: mean |log pi - log pi_engine|, nats.",
        values,
        formats={"": ".3f", "test response tokens": ".1f"},
    )


def _labels(names: Series, methods: Methods) -> Series:
    """What methods are called; several, joined by a plus, each by its own name."""
    label = partial(inputs.method_label, methods=methods)
    return names.map(lambda joined: " + ".join(map(label, joined.split("+"))))

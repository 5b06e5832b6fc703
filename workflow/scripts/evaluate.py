"""Evaluate one checkpoint on the held-out splits: greedy and sampled pass@1, pass@k, maj@k."""

import gzip
import json

import pandas as pd

from sspo.config.reading import load_json, plain, read
from sspo.config.study import EvaluationRun
from sspo.data.problems import check_lengths, read_problems
from sspo.models.policy import load_tokenizer
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.files import write_bytes, write_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run
from sspo.rewards.base import check_golds
from sspo.rewards.factory import make_reward
from sspo.rollout.factory import make_engine
from sspo.training.evaluation import problem_scores, summarize
from sspo.training.grading import evaluate_problems


def main() -> None:
    paths = parse_paths(
        __doc__,
        config="evaluation config",
        model="checkpoint",
        data="folder of the splits",
        output="folder for eval.json, scores.csv.gz and completions.jsonl.gz",
    )
    config = read(EvaluationRun, paths.config)
    settings, sampling = config.evaluation, config.sampling
    set_up_torch(config.compute)
    files = {split: paths.data / f"{split}.jsonl" for split in settings.splits}
    splits = {split: read_problems(file) for split, file in files.items()}
    reward = make_reward(config.reward)
    for split, problems in splits.items():
        check_golds(problems, reward, files[split])
    tokenizer = load_tokenizer(paths.model)
    context = load_json(paths.model / "config.json")["max_position_embeddings"]
    for split, problems in splits.items():
        check_lengths(problems, tokenizer, context, 1, files[split])
    too_long = load_json(paths.data / "summary.json").get("too_long", {})
    engine = make_engine(settings, sampling, config.compute, paths.model, tokenizer)
    results, lines, scores = {}, [], []
    inputs = [paths.config, *paths.model.iterdir(), paths.data / "summary.json"]
    for split, problems in splits.items():
        records = evaluate_problems(
            problems,
            engine,
            tokenizer,
            reward,
            samples=settings.samples,
            temperature=settings.temperature,
            max_tokens=sampling.max_response_tokens,
            seed=settings.seed,
            context=context,
        )
        graded = [problem_scores(record, settings.pass_at) for record in records]
        results[split] = summarize(graded)
        scores += [
            {"split": split, "problem": record["id"], **score}
            for record, score in zip(records, graded, strict=True)
        ]
        lines += [json.dumps({"split": split, **record}) for record in records]
        inputs.append(files[split])
        print(split, json.dumps(results[split]), flush=True)
    text = "".join(f"{line}\n" for line in lines)
    names = ("eval.json", "scores.csv.gz", "completions.jsonl.gz")
    summary, table, completions = (paths.output / name for name in names)
    write_bytes(completions, gzip.compress(text.encode(), mtime=0))
    write_bytes(table, gzip.compress(pd.DataFrame(scores).to_csv(index=False).encode(), mtime=0))
    left_out = {split: len(too_long[split]) for split in results if too_long.get(split)}
    write_json(summary, {"splits": results} | ({"left_out": left_out} if left_out else {}))
    write_record(
        paths.output / "eval.provenance.json",
        __file__,
        inputs=inputs,
        outputs=[summary, table, completions],
        seeds=[settings.seed],
        config=plain(config),
    )
    engine.close()


if __name__ == "__main__":
    run(main)

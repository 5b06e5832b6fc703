"""The verdicts on the claims: claims.json, the same as a page to read, and tables for figures."""

import pandas as pd

from sspo.config.reading import load_json
from sspo.evidence.page import claims_page, read_labels
from sspo.evidence.protocol import load_protocol
from sspo.evidence.report import claims_report
from sspo.pipeline.files import write_bytes, write_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(
        __doc__,
        plan="YAML of the claims",
        config="JSON: the regimes in which they are decided",
        runs="CSV, a row per run",
        scores="CSV, a row per run and problem",
        methods="JSON: method -> label, color",
        output="folder for claims.json, claims.md, comparisons.csv and factorial.csv",
    )
    protocol = load_protocol(paths.plan).changed(**load_json(paths.config))
    runs = pd.read_csv(paths.runs)
    labels = read_labels(paths.methods)
    report = claims_report(protocol, runs, pd.read_csv(paths.scores), labels)
    files = {
        name: paths.output / name
        for name in ("claims.json", "claims.md", "comparisons.csv", "factorial.csv")
    }
    write_json(files["claims.json"], report)
    write_bytes(files["claims.md"], claims_page(report, labels).encode())
    comparisons = [*report["comparisons"], *report["remedies"]]
    pd.DataFrame(comparisons).drop(columns="by_base").to_csv(files["comparisons.csv"], index=False)
    pd.DataFrame(report["factorial"]).to_csv(files["factorial.csv"], index=False)
    write_record(
        paths.output / "claims.provenance.json",
        __file__,
        inputs=[paths.plan, paths.config, paths.runs, paths.scores, paths.methods],
        outputs=files.values(),
        seeds=set(map(int, runs["seed"])),
        runs=sorted(runs["run"]),
    )


if __name__ == "__main__":
    run(main)

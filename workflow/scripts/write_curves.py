"""Write the interactive page of the training curves: one HTML file that needs no network."""

from jinja2 import Template
from jinja2.utils import htmlsafe_json_dumps
from plotly.offline import get_plotlyjs

from sspo.config.reading import load_json
from sspo.figures.command import read_frame
from sspo.figures.curves_page import curves_data, run_samples
from sspo.pipeline.files import write_bytes
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(
        __doc__,
        methods="JSON: method -> label, color",
        metrics="metrics.csv of all runs",
        runs="folder of the runs, for their rollouts",
        template="Jinja template of the page",
        output="the HTML to write",
    )
    data = curves_data({"metrics": read_frame(paths.metrics)}, load_json(paths.methods))
    # Runs whose records came from elsewhere have none, nor has the control, which samples nothing.
    rollouts = {name: paths.runs / name / "rollouts.jsonl.gz" for name in data["runs"]}
    rollouts = {name: file for name, file in rollouts.items() if file.exists()}
    data["samples"] = {name: run_samples(file) for name, file in rollouts.items()}
    page = Template(paths.template.read_text(encoding="utf-8"), autoescape=True)
    # Not by the filter `tojson`, which sorts methods and measures by name.
    text = page.render(
        data=htmlsafe_json_dumps(data, separators=(",", ":")),
        every=data["every"],
        plotly=get_plotlyjs(),
    )
    write_bytes(paths.output, text.encode())
    write_record(
        paths.output.with_suffix(".json"),
        __file__,
        inputs=[paths.methods, paths.metrics, paths.template, *rollouts.values()],
        outputs=[paths.output],
        seeds={seen["seed"] for seen in data["runs"].values()},
        runs=sorted(data["runs"]),
    )


if __name__ == "__main__":
    run(main)

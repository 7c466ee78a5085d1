"""Comparison of runs."""

from pathlib import Path

import click

from pneumo_keras.cli.group import JSON, SPLIT, print_json


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN...")
@SPLIT
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also draw the ROC curves of all runs there, as PNG; must be new.",
)
@JSON
def compare(runs: tuple[Path, ...], split: str, out: Path | None, as_json: bool) -> None:
    """Compares evaluated runs on the same images.

    Each is compared with the first one. Images are paired, so that differences show that two separate
    intervals would hide. RUN/data/NAME, which eval --data writes, is a run here.

    \b
    pneumo-keras compare runs/reference runs/one runs/two --out roc.png
    """
    if len(runs) < 2:
        raise click.UsageError("Name two runs or more.")
    from pneumo_keras.runs.folder import RunFolder
    from pneumo_keras.storage.files import check_new

    folders = [RunFolder(run) for run in runs]
    for folder in folders:
        folder.check_evaluated()
    if out:
        check_new(out, option="--out", ending=".png")
    from pneumo_keras.recipes.compare import compare_runs
    from pneumo_keras.reporting.evaluation_text import (
        PAIRED_BY_PATH,
        describe_patients,
        format_differences,
    )
    from pneumo_keras.storage.documents import to_document

    found = compare_runs(folders[0], folders[1:], split, out)
    if as_json:
        rows = [
            {
                "run": str(one.run),
                "changed": one.changed,
                "differences": {name: to_document(figure) for name, figure in one.differences.items()},
                "patients": to_document(one.patients) if one.patients else None,
                "paired_by_path": one.paired_by_path,
            }
            for one in found
        ]
        print_json({"first": str(runs[0]), "split": split, "others": rows})
        return
    texts = [
        format_differences(
            one.differences,
            heading=f"{one.run} minus {runs[0]}, split {split}",
            changed=one.changed,
            cautions=[
                PAIRED_BY_PATH if one.paired_by_path else "",
                describe_patients(one.patients, one.n),
            ],
        )
        for one in found
    ]
    click.echo("\n\n".join(texts))

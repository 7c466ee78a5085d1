"""Images of the user: scored, and explained."""

import contextlib
import functools
import itertools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumo_keras.cli.group import JSON, PREVALENCE, RUN, option_out
from pneumo_keras.errors import DataError
from pneumo_keras.storage.printable import to_amount, to_printable

if TYPE_CHECKING:
    from pneumo_keras.data.listing import IgnoredFiles
    from pneumo_keras.runs.run import Run, ScoredImage

log = logging.getLogger("pneumo_keras")

PATHS = click.argument("paths", nargs=-1, required=True, metavar="PATH...")


@click.command()
@RUN
@PATHS
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "csv", "json"]),
    help="Table, CSV, or JSON Lines (one object per line).  [default: table on a terminal, else csv]",
)
@option_out("FILE", "Write to this file instead of stdout; must be new.")
@click.option(
    "--parts",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Also write the rows of --out as Parquet files into this folder; must be new.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(["probability", "uncertainty"]),
    metavar="ORDER",
    help="Order of the rows, which are then written at the end. probability: the highest first. "
    "uncertainty: the nearest to the threshold first.",
)
@click.option("--resume", is_flag=True, help="Continue the CSV file of --out after an interruption.")
@PREVALENCE
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that decode files.  [default: one per core]",
)
@click.option(
    "--cluster",
    type=click.Choice(["none", "ray"]),
    help="Machines: this one, or those of a Ray cluster.  [default: compute.cluster of the run]",
)
def predict(
    run: "Run",
    paths: tuple[str, ...],
    layout: str | None,
    out: Path | None,
    parts: Path | None,
    order: str | None,
    resume: bool,
    prevalence: float | None,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Scores images with a run.

    RUN is the folder of a run. PATH is an image (PNG, JPEG, TIFF, BMP, WebP, DICOM), a folder, a pattern in
    quotes, or - for a list of names on stdin, one per line. In a folder, hidden files are skipped, and
    files of other types are skipped and counted. Images are prepared as the training images of the run
    were.

    Each image has a row: path, probability of pneumonia, prediction, warning. The prediction is pneumonia
    where the probability is above the threshold (0.5, or chosen on validation images), which is shown
    first. A warning says that an image is out of distribution; if far (1.5 times the limit), its score is
    of no use. The row of a file that cannot be read has the reason and no score, and the exit status is
    then 1.

    On a Ray cluster the rows are the same. The environment variable RAY_ADDRESS=HOST:PORT names the head;
    without it, Ray starts on this machine. All machines need run, images and working folder under the
    same paths.

    In tables and CSV, characters of a path that cannot be printed are escaped (\\n). A research tool, not
    a medical device.

    \b
    Examples:
      pneumo-keras predict runs/one image.png
      pneumo-keras predict runs/one images/ --sort uncertainty
      pneumo-keras predict runs/one images/ --out scores.csv
      find images -name '*.dcm' | pneumo-keras predict runs/one - --format json
    """
    from pneumo_keras.data.listing import IgnoredFiles
    from pneumo_keras.reporting.predictions import (
        LAYOUTS,
        ResumedCsv,
        replace_lines,
        resume_csv,
        sort_predictions,
    )
    from pneumo_keras.runtime.backend import check_packages
    from pneumo_keras.storage.files import check_free, check_new, claim_file, explain_unwritable

    if (resume or parts) and (out is None or layout in ("table", "json")):
        option = "--resume continues" if resume else "--parts are made of"
        raise click.UsageError(f"{option} a CSV file: name it with --out.")
    if order and resume:
        raise click.UsageError("--sort writes rows at the end, so that --resume has nothing to continue.")
    if parts:
        check_packages("--parts", ["pyarrow"], extra="cluster")
        check_free(parts, option="--parts")
    on_terminal = out is None and sys.stdout.isatty()
    chosen = LAYOUTS[layout or ("table" if on_terminal else "csv")]
    ignored = IgnoredFiles()
    with contextlib.ExitStack() as stack:
        if out:
            stack.enter_context(claim_file(out, option="--out"))
            if not resume:
                check_new(out, option="--out")
        threshold, score = stack.enter_context(_open_scoring(run, cluster, prevalence, workers, paths))
        names, before = _list_names(paths, out, ignored), ResumedCsv()
        if out and out.exists():
            before, names = resume_csv(out, names, threshold=threshold)
        if before.images:
            log.info("%s has %s already", out, to_amount(before.images, "image"))
        if before.again:
            log.info("Retrying what was not scored: %s", to_amount(len(before.again), "image"))
        counts = Counter(before=before.images - before.failed, failed=before.failed - len(before.again))
        rest = itertools.chain((path for _, path in before.again), names)
        images = stack.enter_context(contextlib.closing(score(paths=rest, last=before.last)))
        bar = not on_terminal or order is not None  # or it would be between the rows of a table
        scored = stack.enter_context(contextlib.closing(_count_each(images, counts, bar=bar)))
        if out and before.again:
            rescored = zip(before.again, scored, strict=False)
            replace_lines(out, [(start, chosen.format(image)) for (start, _), image in rescored])
        file = None
        if out:
            stack.enter_context(explain_unwritable(out, option="--out"))
            file = stack.enter_context(out.open("a", encoding="utf-8", newline=""))
        header = "" if file and file.tell() else chosen.header
        for image in sort_predictions(scored, order) if order else scored:
            if header:  # log lines come before it
                click.echo(header.format(threshold=threshold), file)
            click.echo(chosen.format(image), file)
            header = ""
    if parts and out:
        from pneumo_keras.reporting.predictions import write_parts

        write_parts(out, parts, option="--parts")
    _check_found(counts["before"] + counts["pneumonia"] + counts["normal"] + counts["failed"], paths, ignored)
    _conclude(counts, out)


@contextlib.contextmanager
def _open_scoring(
    run: "Run", cluster: str | None, prevalence: float | None, workers: int | None, paths: tuple[str, ...]
) -> Iterator[tuple[float, Callable[..., Generator[Any, None, None]]]]:
    """The threshold of a run, and what scores files: here or on a cluster."""
    if (cluster or run.config.compute.cluster) == "ray":
        from pneumo_keras.cluster.connection import check_cluster, open_cluster
        from pneumo_keras.recipes.predict import predict_on_cluster

        check_cluster("--cluster ray" if cluster else "compute.cluster='ray' of the run")
        _, point = run.to_prevalence(prevalence)
        with open_cluster():
            options = {"prevalence": prevalence, "workers": workers}
            yield point.threshold, functools.partial(predict_on_cluster, run, **options)
        return
    from pneumo_keras.data.decoding import Decoders, count_cores
    from pneumo_keras.recipes.predict import build_scorer, predict_files

    if workers is None and all(map(os.path.isfile, paths)):
        workers = min(len(paths), count_cores())
    with Decoders(run.preparation, workers=workers) as decoders:
        scorer = build_scorer(run, prevalence=prevalence)
        yield scorer.threshold, functools.partial(predict_files, scorer, decoders)


def _list_names(paths: tuple[str, ...], out: Path | None, ignored: "IgnoredFiles") -> Iterator[str]:
    """The files that PATHs match, except the one that is being written."""
    from pneumo_keras.data.listing import list_files, read_names

    written = os.path.realpath(out) if out else None
    files = list_files(paths, read_names(sys.stdin), ignored)
    return (name for name in files if written is None or os.path.realpath(name) != written)


def _count_each(
    images: Iterator["ScoredImage"], counts: Counter[str], *, bar: bool
) -> Generator["ScoredImage", None, None]:
    from pneumo_keras.runtime.progress import show_progress

    with show_progress("Scoring", 0, "images") if bar else contextlib.nullcontext() as progress:
        for image in images:
            yield image
            counts[image.prediction or "failed"] += 1
            counts["warned"] += image.probability is not None and bool(image.warning)
            if progress:
                progress.advance(1)


def _check_found(count: int, paths: tuple[str, ...], ignored: "IgnoredFiles") -> None:
    """Logs which files of other kinds were ignored.

    Raises:
        DataError: There were no images.
    """
    if ignored.count:
        log.warning("%s", ignored.describe())
    if not count:
        kind = "image" if ignored.count else "file"
        raise DataError(f"PATH must name images. Received: no {kind} in {' '.join(paths)}")


def _conclude(counts: Mapping[str, int], out: Path | None) -> None:
    failed, now = counts["failed"], counts["pneumonia"] + counts["normal"]
    numbers = (counts["pneumonia"], counts["normal"], counts["warned"], failed)
    log.info(
        "%s scored: %s pneumonia, %s normal; %s with a warning; %s not scored%s",
        to_amount(now, "image"),
        *(f"{n:,}" for n in numbers),
        f". {out}" if out else "",
    )
    if failed:
        total = to_amount(counts["before"] + now + failed, "file")
        rows = "Its row has" if failed == 1 else "Their rows have"
        raise DataError(f"{failed:,} of {total} could not be scored. {rows} the reason.")


@click.command()
@RUN
@PATHS
@option_out("DIR", "Folder for pictures and maps; must be new or empty.  [default: RUN/explanations]")
@JSON
def explain(run: "Run", paths: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Shows which regions of an image raise or lower its score.

    RUN is the folder of a run. PATH is an image, a folder, a pattern in quotes, or - for a list of names on
    stdin, as for predict.

    Each image gets a picture, NAME.png: the image, and next to it the image with its map, red where it
    looks less normal than normal images do in the same region, blue where more normal. NAME.npy has the
    map as numbers, in log odds: their mean is the difference between the log odds of the image and of
    normal images. explanations.csv lists all images. In RUN/explanations, files of an earlier run of this
    command are replaced.

    The map shows what the score is made of, not where the disease is. It was not compared with the marks
    of radiologists. A research tool, not a medical device.

    \b
    Examples:
      pneumo-keras explain runs/one image.png
      pneumo-keras explain runs/one images/ --out maps
    """
    from pneumo_keras.data.listing import IgnoredFiles, list_files, read_names
    from pneumo_keras.runtime.progress import clear_bars
    from pneumo_keras.storage.files import check_free

    if out:
        check_free(out, option="--out")
    ignored = IgnoredFiles()
    names = list(list_files(paths, read_names(sys.stdin), ignored))  # before there are pictures among them
    _check_found(len(names), paths, ignored)
    from pneumo_keras.recipes.explain import build_image_explainer, explain_files

    explainer, target = build_image_explainer(run), out or run.folder.path / "explanations"
    explained = []
    for one in explain_files(explainer, names, target, may_replace=out is None):
        explained.append(one)
        scored, name = one.scored, to_printable(one.scored.path)
        with clear_bars():
            if scored.probability is None:
                click.echo(f"{name}: {scored.warning}", err=True)
            elif not as_json:
                warning = f" ({scored.warning})" if scored.warning else ""
                score = f"score {scored.probability:.3f}, predicted {scored.prediction}{warning}"
                click.echo(f"{name}: {score}: {target / one.picture}")
    if as_json:
        images = [one.to_row() for one in explained]
        document = {"run": str(run.folder.path), "out": str(target), "images": images}
        click.echo(json.dumps(document, indent=2))
    if failed := sum(one.scored.probability is None for one in explained):
        total = to_amount(len(explained), "file")
        raise DataError(f"{failed:,} of {total} could not be explained, see above.")

"""Watch: a run as lines on the terminal, TensorBoard event files, and a plot at its end."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raydistill import progress
from raydistill.progress import duration
from raydistill.student.fit import Progress


class Watch:
    """Takes a run's Progress lines, in order; `folder` gets its event files while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None
        self.lines: dict[int, Progress] = {}

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def __call__(self, line: Progress) -> None:
        """Prints a line and adds it to the event file; a step seen before is only kept once."""
        known = line.step in self.lines
        self.lines[line.step] = line
        if known:
            return
        if self.writer is None:
            from tensorboardX import SummaryWriter

            self.writer = SummaryWriter(str(self.folder))
        agreement = f"  agreement {line.agreement:.1%}" if line.agreement >= 0 else ""
        print(
            f"step {line.step}/{line.steps}  loss {line.loss:.3f}{agreement}"
            f"  {line.tokens_per_s:,.0f} tokens/s  ETA {duration(line.eta_s)}",
            flush=True,
        )
        values = {"loss": line.loss, "rate": line.rate, "tokens_per_s": line.tokens_per_s}
        if line.agreement >= 0:
            values["agreement"] = line.agreement
        progress.tell("train", line.step, line.steps, **values)
        for name, value in values.items():
            self.writer.add_scalar(f"train/{name}", value, line.step)
        self.writer.flush()

    def finish(self, student: Path) -> None:
        """Puts the event files, the lines and a plot of them into the student's folder."""
        if self.writer is None:
            return
        self.writer.close()
        into = student / "watch"
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(self.folder, into)
        shutil.rmtree(self.folder)
        lines = [self.lines[step] for step in sorted(self.lines)]
        text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
        (into / "progress.jsonl").write_text(text)
        _plot(lines, into / "loss.svg")


def _plot(lines: list[Progress], file: Path) -> None:
    """Loss, and where it was measured the agreement on validation, by step; an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.add_subplot()
    left.plot([line.step for line in lines], [line.loss for line in lines], color="#3b6ea8")
    left.set_xlabel("step")
    left.set_ylabel("loss", color="#3b6ea8")
    seen = [line for line in lines if line.agreement >= 0]
    if seen:
        right = left.twinx()
        right.plot([line.step for line in seen], [line.agreement for line in seen], color="#b5651d")
        right.set_ylabel("agreement on validation", color="#b5651d")
        right.set_ylim(0, 1)
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(file, metadata={"Date": None})

"""Run the campaign: `python -m tests.chaos`, or with `--short` two minutes of it."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import click

from resblock.core.files import write_text
from tests.chaos.campaign import Campaign, shuffled_deck, table
from tests.chaos.kinds import KINDS, SHORT
from tests.chaos.nodes import started
from tests.chaos.scene import RUN, Scene, make_project
from tests.chaos.state import end_state
from tests.test_faults import serving

PAGE = Path(__file__).resolve().parents[2] / "docs/reliability.md"
SEEDS = (0, 1)
ENOUGH = 0.9  # of the faults asked for: some need a moment that does not always come
LAST = 60  # lines
BEGIN, END = "<!-- campaign -->\n", "<!-- /campaign -->"


@click.command()
@click.option("--faults", default=120, show_default=True, help="How many faults.")
@click.option("--seed", default=0, show_default=True, help="Decides which faults come when.")
@click.option("--short", is_flag=True, help="Eight faults of eight kinds in one study.")
@click.option("--only", multiple=True, type=click.Choice(list(KINDS)), help="These kinds alone; repeatable.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Work here and keep it, going on from what is there; default: a temporary folder.",
)
@click.option("--write", is_flag=True, help="Put the table into docs/reliability.md.")
def main(faults: int, seed: int, short: bool, only: tuple[str, ...], folder: Path | None, write: bool) -> None:
    """Break things while a small study runs, and hold that it ends as if nothing had happened."""
    kinds, faults = (SHORT, len(SHORT)) if short else (only or tuple(KINDS), faults)
    place = (folder or Path(tempfile.mkdtemp(prefix="resblock-chaos-"))).resolve()
    place.mkdir(parents=True, exist_ok=True)
    dice, begin = random.Random(seed), time.monotonic()
    print(f"campaign of {faults} faults, seed {seed}, in {place}", flush=True)
    deck = shuffled_deck(kinds, faults, dice)
    with (
        serving(200, 0.0) as server,
        (place / "said.txt").open("a") as said,
        (place / "log.jsonl").open("a") as log,
        started(place / "nodes", cpus=4) if any(KINDS[kind].cluster for kind in deck) else nullcontext() as nodes,
    ):
        undisturbed = Scene(place / "undisturbed", dice, server, said)
        if not (place / "pristine").exists():
            make_project(place / "pristine", SEEDS[:1] if short else SEEDS)
            undisturbed.begin_anew(place / "pristine")
            if undisturbed.call(*RUN) or undisturbed.call("resblock", "sync"):
                sys.exit(f"the undisturbed study failed; see {place / 'said.txt'}")
        print(f"undisturbed after {time.monotonic() - begin:.0f} s", flush=True)
        scene = Scene(place / "disturbed", dice, server, said, nodes)
        campaign = Campaign(scene, place / "pristine", end_state(undisturbed.root), deck, log)
        campaign.go_on((place / "log.jsonl").read_text().splitlines())
        try:
            campaign.run()
        finally:
            scene.end_all()
    lines = list(table(campaign.events, campaign.wrong))
    lines.insert(0, f"Seed {seed}, {campaign.seconds / 60:.0f} minutes.\n")
    print("\n".join(lines))
    if write:
        text = PAGE.read_text()
        head, _, rest = text.partition(BEGIN)
        write_text(PAGE, head + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2])
    if campaign.wrong:
        print("\nWhat commands said last:", *(place / "said.txt").read_text().splitlines()[-LAST:], sep="\n")
    if campaign.wrong or len(campaign.events) < ENOUGH * faults:
        sys.exit(f"{len(campaign.wrong)} wrong, {len(campaign.events)} of {faults} faults; see {place}")
    if folder is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()

"""What `dvc plots show` draws: depth against accuracy for each data set, and none of the outs that only are plots."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo
from ruamel.yaml import YAML

from resblock.core.spec import ModelSpec
from resblock.evaluation.score import METRICS, Score, empty_score, write_scores
from tests.browser import needs_browser, open_browser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own, of what it imports

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path("results/digits/report")
SCORES = [
    Score("plain-8", "plain", 8, 0, "finished", **dict.fromkeys(METRICS, 0.9)),
    Score("residual-8", "residual", 8, 0, "finished", **dict.fromkeys(METRICS, 0.95)),
    empty_score(ModelSpec.parse("plain-20"), 0, "diverged"),
]
STUB = (
    "window.drawn = []; window.vegaEmbed = (place, spec) => { window.drawn.push(place); }"  # for what comes from afar
)

SHOWN = "[...document.querySelectorAll('div[id]')].filter(e => getComputedStyle(e).display != 'none').map(e => e.id)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `dvc plots show` writes in a project with this one's charts, a report, and a manifest that is a plot."""
    root = tmp_path_factory.mktemp("plots")
    whole = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    files = [REPORT / "scores.csv", REPORT / "run.json"]
    stage = {"cmd": "true", "plots": [{str(file): {"cache": False}} for file in files]}
    with chdir(root):
        Repo.init(no_scm=True)
        shutil.copytree(ROOT / ".dvc/plots", ".dvc/plots")
        for name in ("config", "plots.html"):
            shutil.copy2(ROOT / ".dvc" / name, ".dvc")
        config = root / ".dvc/config"
        config.write_text(config.read_text().replace("[core]\n", "[core]\n    no_scm = true\n"))
        YAML().dump({"stages": {"report": stage}, "plots": whole["plots"]}, Path("dvc.yaml"))
        REPORT.mkdir(parents=True)
        write_scores(REPORT, SCORES)
        (root / REPORT / "run.json").write_text(json.dumps({"seeds": [{"seed": 0}, {"seed": 1}]}))
        assert dvc(["plots", "show", "--quiet"]) == 0
    return root / "dvc_plots/index.html"


def charts(page: Path) -> dict[str, Any]:
    found = re.findall(r'<div id = "([^"]+)">.*?var spec = (\{.*?\});\s+vegaEmbed', page.read_text(), re.DOTALL)
    return {name: json.loads(spec) for name, spec in found}


@contextmanager
def opened(page: Path) -> Generator[Any]:
    with open_browser() as browser:
        there = browser.new_page()
        there.route(re.compile("^https:"), lambda route: route.fulfill(body=STUB, content_type="text/javascript"))
        there.goto(page.as_uri())
        yield there


@needs_browser
def test_charts_of_dvc_yaml_are_drawn_and_outs_are_not(page: Path) -> None:
    assert charts(page)["results_digits_report_run_json"]  # DVC offers it
    assert charts(page)["cifar10__depth_against_accuracy"] == {}
    with opened(page) as there:
        assert there.evaluate("window.drawn") == ["#digits__depth_against_accuracy"]
        charts_shown = there.evaluate(SHOWN)
        assert charts_shown == ["digits__depth_against_accuracy"]  # cifar10 has no scores yet


def test_a_chart_tells_families_apart_and_leaves_out_what_has_no_figure(page: Path) -> None:
    chart = charts(page)["digits__depth_against_accuracy"]
    assert {row["variant"] for row in chart["data"]["values"]} == {"plain-8", "residual-8", "plain-20"}
    assert "datum['test_accuracy_reestimated'] !== ''" in chart["transform"][0]["filter"]
    assert chart["encoding"]["color"]["field"] == chart["transform"][3]["as"]
    assert "DVC_METRIC" not in json.dumps(chart)


def test_every_data_set_of_the_study_has_its_chart() -> None:
    whole = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    titles = {title for chart in whole["plots"] for title in chart}
    datasets = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["study"]["datasets"]
    assert titles == {f"{dataset}, depth against accuracy" for dataset in datasets}

"""The views of an experiment that answer the study's question, saved where MLflow's UI keeps its named views.

MLflow 3 stores a view as a tag of the experiment: JSON with the page's state as deflated base64. Opened by its key, it
shows the training runs with our columns and charts, instead of the traces view that the UI opens by itself.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from resblock.core.files import digest_tree
from resblock.tracking.result import TRAIN_RUNS

VIEW_KEY = "resblock"
VIEW_NAME = "Depth against accuracy"

MEANS_KEY = "resblock-means"
MEANS_NAME = "Means over seeds"

_TAG = "mlflow.sharedViewState."  # and the view's key
_WRITTEN_TAG = "resblock.view"  # digest of the views as we wrote them last: what a person saved over them stays
_CREATED = 1_767_225_600_000  # any fixed time: the view is the same wherever it is made

# Charts abreast. MLflow titles a scatter chart by its axes and shows what fits: in a window of 1400 pixels with the
# assistant open, all of it only where the chart stands alone. Of 3 curves abreast two letters would be left there.
SCATTERS_ABREAST, LINES_ABREAST = 1, 2

_PARAMS = ("variant", "family", "depth", "seed")
# First stand figures with batch-norm statistics re-estimated, as in the report.
_METRICS = (
    "validation_accuracy_reestimated",
    "test_accuracy_reestimated",
    "images_per_second",
)  # what a table of 1500 pixels holds
_SCATTERS = ("test_accuracy_reestimated", "test_accuracy", "validation_accuracy_reestimated")
_LINES = (
    "accuracy",
    "validation_accuracy",
    "validation_accuracy_reestimated",
    "loss",
    "validation_loss",
    "validation_loss_reestimated",
)


def save_view(client: mlflow.MlflowClient, experiment: Experiment) -> None:
    """Put our views among the experiment's saved ones, unless they are there as this version of resblock has them."""
    views = {_TAG + VIEW_KEY: _view(VIEW_NAME, _state()), _TAG + MEANS_KEY: _view(MEANS_NAME, _means())}
    ours = digest_tree(views)
    if views.keys() <= experiment.tags.keys() and experiment.tags.get(_WRITTEN_TAG) == ours:
        return
    for tag, view in {**views, _WRITTEN_TAG: ours}.items():
        try:
            client.set_experiment_tag(experiment.experiment_id, tag, view)
        except MlflowException:  # another process was the first to write this tag; by now it is there to be replaced
            client.set_experiment_tag(experiment.experiment_id, tag, view)


def view_fragment(experiment_id: str, key: str = VIEW_KEY) -> str:
    """Return the part of the UI's address that opens the view `key`."""
    query = f"viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def _view(name: str, state: Mapping[str, Any]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": _CREATED, "updatedAt": _CREATED, "state": f"deflate;{packed}"})


def _means() -> dict[str, Any]:
    """Return the same page with one group of runs for each variant, which charts and table average over."""
    variant = {"mode": "param", "groupByData": "variant"}
    return {**_state(), "groupBy": {"aggregateFunction": "average", "groupByKeys": [variant]}}


def _state() -> dict[str, Any]:
    columns = [f"params.`{name}`" for name in _PARAMS] + [f"metrics.`{name}`" for name in _METRICS]
    charts = [_scatter(metric) for metric in _SCATTERS] + [_line(metric) for metric in _LINES]
    return {
        "searchFilter": TRAIN_RUNS,
        "orderByKey": "tags.`mlflow.runName`",  # by time, MLflow hides runs and their points behind their parent
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": charts,
        "compareRunSections": [
            _section("depth", "By depth", SCATTERS_ABREAST),
            _section("curves", "Learning curves", LINES_ABREAST),
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _section(uuid: str, name: str, abreast: int) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "columns": abreast,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _chart(uuid: str, kind: str, section: str, **settings: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }


def _scatter(metric: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": "depth", "type": "PARAM"}, "yaxis": {"key": metric, "type": "METRIC"}}
    return _chart(f"scatter-{metric}", "SCATTER", "depth", displayName=f"depth against {metric}", **axes)


def _line(metric: str) -> dict[str, Any]:
    return _chart(
        f"line-{metric}",
        "LINE",
        "curves",
        displayName=metric,
        metricKey=metric,
        selectedMetricKeys=[metric],
        lineSmoothness=0,
        xAxisKey="step",
        xAxisScaleType="linear",
        scaleType="linear",
        range={},
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )

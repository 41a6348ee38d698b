"""The view of an experiment that answers the study's question, saved where MLflow's UI keeps its named views.

MLflow 3 stores a view as a tag of the experiment: JSON with the page's state as deflated base64. Opened by its key, it
shows the training runs with our columns and charts, instead of the traces view that the UI opens by itself.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import mlflow
from mlflow.entities import Experiment

from resblock.files import digest_tree
from resblock.tracking.result import STAGE_TAG, SUPERSEDED_TAG

VIEW_KEY = "resblock"
VIEW_NAME = "Depth against accuracy"
TRAIN_RUNS = f"tags.`{STAGE_TAG}` = 'train' and tags.`{SUPERSEDED_TAG}` = 'false'"

_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_WRITTEN_TAG = "resblock.view"  # digest of the view as we wrote it last: what a person saved over it stays
_CREATED = 1_767_225_600_000  # any fixed time: the view is the same wherever it is made

_PARAMS = ("variant", "family", "depth", "seed")
_METRICS = ("validation_accuracy", "test_accuracy", "test_accuracy_reestimated", "images_per_second")
_SCATTERS = ("test_accuracy", "test_accuracy_reestimated", "validation_accuracy")
_LINES = (
    "accuracy",
    "validation_accuracy",
    "validation_accuracy_reestimated",
    "loss",
    "validation_loss",
    "validation_loss_reestimated",
)


def save_view(client: mlflow.MlflowClient, experiment: Experiment) -> None:
    """Put the view among the experiment's saved views where it is missing or this version of resblock has another."""
    ours = digest_tree(_state())
    if _TAG in experiment.tags and experiment.tags.get(_WRITTEN_TAG) == ours:
        return
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(_state()).encode())).decode()
    view = {"name": VIEW_NAME, "createdAt": _CREATED, "updatedAt": _CREATED, "state": state}
    client.set_experiment_tag(experiment.experiment_id, _TAG, json.dumps(view))
    client.set_experiment_tag(experiment.experiment_id, _WRITTEN_TAG, ours)


def view_fragment(experiment_id: str) -> str:
    """Return the part of the UI's address that opens the view."""
    query = f"viewStateShareKey={VIEW_KEY}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{query}"


def _state() -> dict[str, Any]:
    columns = [f"params.`{name}`" for name in _PARAMS] + [f"metrics.`{name}`" for name in _METRICS]
    charts = [_scatter(metric) for metric in _SCATTERS] + [_line(metric) for metric in _LINES]
    return {
        "searchFilter": TRAIN_RUNS,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": charts,
        "compareRunSections": [_section("depth", VIEW_NAME), _section("curves", "Learning curves")],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
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

"""What the residual block buys, and how accuracy changes with depth.

In a notebook or a script, in the project's folder or below::

    import resblock

    digits = resblock.read_study("digits")          # .scores, .curves, .gaps, .verdicts: pandas frames
    resblock.network("residual-20", dataset="digits").model.summary()
    resblock.trained("residual-20", dataset="digits", seed=0).model  # with the weights of a training
    mlflow.search_runs(experiment_names=["resblock-digits"], filter_string=resblock.TRAIN_RUNS)

`help(resblock.StudyFrames)` explains every column. Importing resblock loads none of this: it is loaded at first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resblock.notebook import TRAIN_RUNS, StudyFrames, network, read_study, trained

__all__ = ["TRAIN_RUNS", "StudyFrames", "network", "read_study", "trained"]


def __getattr__(name: str) -> Any:
    """Load what is for notebooks when it is asked for."""
    if name in __all__:
        from resblock import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""On what terms trainings are computed on a Ray cluster: what the command line asks for, and what a command is told."""

from __future__ import annotations

from dataclasses import dataclass

ELSEWHERE = "RESBLOCK_RAY"  # a `Terms` as JSON: where a training's command has it computed


@dataclass(frozen=True)
class Terms:
    """On what terms trainings are computed on a cluster."""

    address: str  # of the cluster; `local` starts one on this machine
    cpus: float = 1.0  # that Ray sets aside for a training; fractions share
    gpus: float = 0.0
    tries: int = 4  # of one training, each from the last epoch that came back
    mixed: bool = False  # whether a node may differ in what changes a result's bytes

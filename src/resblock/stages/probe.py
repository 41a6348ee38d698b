"""Stage ``probe``: what the initial weights of networks do to gradients."""

from __future__ import annotations

from resblock import paths
from resblock.core.files import write_json
from resblock.core.spec import ModelSpec
from resblock.core.splits import read_description, read_verified
from resblock.core.training.run import GradientRow
from resblock.evaluation.flow import Shattering, Untrained, write_untrained
from resblock.params import read_params
from resblock.stages import manifests
from resblock.stages.results import result_of
from resblock.stages.terminal import say
from resblock.stages.tracked import tracked
from resblock.startup import start_keras


def run(dataset_name: str) -> None:
    """Measure gradients in every network and seed that params.yaml names under probes, before training."""
    params = read_params(paths.PARAMS)
    probing, recipe = params.probing(dataset_name), params.recipe(dataset_name)
    dataset = read_description(paths.splits(dataset_name))
    train = read_verified(paths.splits(dataset_name), dataset, "train")
    threads = start_keras(recipe.threads)
    from resblock.evaluation.untrained import probe  # Keras, now quiet

    manifest = manifests.of_probe(dataset_name, probing, recipe, data_digest=dataset.digest, threads=threads)
    gradients: dict[ModelSpec, dict[int, list[GradientRow]]] = {}
    shattering: list[Shattering] = []
    with tracked(manifest) as tracker:
        for spec in probing.specs:
            for seed in probing.seeds:
                rows, cosines = probe(spec, seed, train, dataset, recipe, probing)
                gradients.setdefault(spec, {})[seed] = rows
                shattering += cosines
                say(f"{spec}, seed {seed}: cosine of neighbours' gradients {cosines[0].cosine:.3f}")
        write_untrained(paths.untrained(dataset_name), Untrained(gradients, shattering))
        write_json(paths.manifest("probe", dataset_name), manifest)
        tracker.complete(lambda: result_of(manifest))

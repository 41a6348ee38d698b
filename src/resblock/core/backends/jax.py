"""JAX: Keras' own layers and optimisers; images and variables stay on the device, and one call takes many steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import keras
import numpy as np

from resblock.core.backends.batches import batches_of, gather, leading_batches, most_images, most_steps, small_batches
from resblock.core.backends.normalization import normalizations, observing
from resblock.core.backends.protocol import BatchStatistics
from resblock.core.splits import Split

STEPS_PER_CALL = 50  # Python and transfers cost per call; more would only make progress jump
HOST_ROOM = 2**29  # bytes of images that are copied into memory where the processor computes

State = tuple[list[Any], list[Any], list[Any]]  # trainable variables, the other ones, the optimiser's


class Steps:
    """Images stay on the device where they fit, else each call brings its own: the steps are the same.

    Keras' variables are brought up to date after each epoch.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split) -> None:
        self._train = train
        resident = train.images.nbytes <= _room()
        self._held: Any = tuple(jax.device_put(array) for array in train) if resident else None

        def objective(trainable: list[Any], others: list[Any], batch: Any, answers: Any) -> tuple[Any, Any]:
            logits, others, penalties = model.stateless_call(
                trainable, others, batch, training=True, return_losses=True
            )
            likelihoods = jnp.take_along_axis(jax.nn.log_softmax(logits), answers[:, None], axis=-1)[:, 0]  # (batch,)
            return -jnp.mean(likelihoods) + sum(penalties), (others, logits, likelihoods)

        def step(held: Any, state: State, given: Any) -> tuple[State, Any]:
            trainable, others, moments = state
            batch, answers = (array[given] for array in held) if resident else given
            differentiate: Any = jax.value_and_grad(objective, has_aux=True)
            (_, (others, logits, likelihoods)), gradients = differentiate(trainable, others, batch, answers)
            trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
            correct = jnp.sum(jnp.argmax(logits, axis=-1) == answers)
            return (trainable, others, moments), jnp.stack([-jnp.sum(likelihoods), correct.astype(jnp.float32)])

        self._resident = resident
        # The images are an argument: what is merely at hand would become a part of every program that is compiled.
        self._steps: Any = jax.jit(
            lambda state, given, held: jax.lax.scan(partial(step, held), state, given), donate_argnums=0
        )
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        # Donated memory must be nobody else's.
        state: Any = tuple([jnp.copy(variable.value) for variable in group] for group in self._variables)
        sums: list[Any] = []
        done = 0
        while done < len(batches):
            most = STEPS_PER_CALL
            if not self._resident:
                most = min(most, most_steps(self._train, len(batches[done])))
            call = leading_batches(batches[done:], most)
            given = jnp.asarray(call) if self._resident else gather(self._train, call)
            state, pairs = self._steps(state, given, self._held)
            sums.append(pairs)
            done += len(call)
            moved(done)
        for group, values in zip(self._variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return np.concatenate([np.asarray(pairs, np.float64) for pairs in sums])


class Inference:
    """Each kind of pass compiled for each size of batch, or operation by operation."""

    def __init__(self, model: keras.Model, *, compiled: bool = True) -> None:
        self._model = model
        self._compile: Callable[[Any], Any] = jax.jit if compiled else lambda passing: passing

    def logits(self, images: np.ndarray) -> np.ndarray:
        variables = self._variables()
        parts: list[np.ndarray] = []
        for batch in small_batches(images):
            # The last batch is filled up to the size of the others, for which all is compiled.
            missing = min(len(images), most_images(images.shape)) - len(batch)
            full = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
            parts.append(np.asarray(self._forward(*variables, full))[: len(batch)])
        return np.concatenate(parts)

    def statistics(self, images: np.ndarray, batch_size: int) -> list[BatchStatistics]:
        seen: list[list[Any]] = []
        for batch in batches_of(images, batch_size):
            found, others = self._observe(*self._variables(), jnp.asarray(batch))
            for variable, value in zip(self._model.non_trainable_variables, others, strict=True):
                variable.assign(value)
            seen.append(found)
        return [
            BatchStatistics(*(np.stack([np.asarray(batch[layer][kind]) for batch in seen]) for kind in range(2)))
            for layer in range(len(normalizations(self._model)))
        ]

    def _variables(self) -> tuple[list[Any], list[Any]]:
        model = self._model
        return (
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
        )

    @cached_property
    def _forward(self) -> Any:
        def logits(trainable: list[Any], others: list[Any], images: Any) -> Any:
            return cast(Any, self._model.stateless_call(trainable, others, images, training=False))[0]

        return self._compile(logits)

    @cached_property
    def _observe(self) -> Any:
        others_at = {id(variable): index for index, variable in enumerate(self._model.non_trainable_variables)}

        def observe(trainable: list[Any], others: list[Any], images: Any) -> tuple[Any, list[Any]]:
            with observing(self._model) as layers:
                moved = cast(Any, self._model.stateless_call(trainable, others, images, training=True))[1]
            moving = [(layer.moving_mean, layer.moving_variance) for layer in layers]
            return [[moved[others_at[id(each)]] for each in pair] for pair in moving], moved

        return self._compile(observe)


class Jax:
    """See `resblock.core.backends.protocol.Backend`."""

    name: Literal["jax"] = "jax"

    def set_up(self, threads: int) -> None:
        # Both are read when the first computation starts the runtime. Several trainings share a card.
        os.environ["NPROC"] = str(threads)
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        jax.config.update("jax_threefry_partitionable", True)  # what is drawn at random depends on it
        keras.ops.zeros(1)

    def accelerator(self) -> str | None:
        device = jax.devices()[0]
        return None if device.platform == "cpu" else str(device.device_kind)

    def float32_arithmetic(self) -> str:
        # XLA shortens float32 on cards that can (compute capability 8 and above), unless it is told not to.
        device: Any = jax.devices()[0]
        precise = getattr(jax.config, "jax_default_matmul_precision", None) in ("highest", "float32")
        capable = float(getattr(device, "compute_capability", 0) or 0) >= 8
        return "tf32" if device.platform == "gpu" and capable and not precise else "float32"

    def batch_normalization(self, *, momentum: float, epsilon: float, name: str, dtype: Any) -> Any:
        return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name, dtype=dtype)

    def relu(self, *, name: str, dtype: Any) -> Any:
        return keras.layers.ReLU(name=name, dtype=dtype)

    def random_flip(self, mode: str, *, seed: int, name: str) -> Any:
        return keras.layers.RandomFlip(mode, seed=seed, dtype="float32", name=name)

    def adam(self, learning_rate: Any) -> Any:
        return keras.optimizers.Adam(learning_rate)

    def sgd(self, learning_rate: Any, *, momentum: float, nesterov: bool) -> Any:
        return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)

    def steps(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split) -> Steps:
        return Steps(model, optimizer, train)

    def inference(self, model: keras.Model, *, compiled: bool = True) -> Inference:
        return Inference(model, compiled=compiled)

    def backpropagate(
        self,
        segments: Sequence[keras.Model],
        inputs: np.ndarray,
        outward: Callable[[np.ndarray], np.ndarray],
        *,
        training: bool,
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        x: Any = jnp.asarray(inputs)
        backs: list[Any] = []
        for segment in segments:
            others = [variable.value for variable in segment.non_trainable_variables]

            def call(trainable: list[Any], x: Any, segment: keras.Model = segment, others: list[Any] = others) -> Any:
                return cast(Any, segment.stateless_call(trainable, others, x, training=training))[0]

            x, back = jax.vjp(call, [variable.value for variable in segment.trainable_variables], x)
            backs.append(back)
        gradient: Any = jnp.asarray(outward(np.asarray(x)))
        points: list[np.ndarray] = []
        weights: dict[str, np.ndarray] = {}
        for segment, back in zip(reversed(segments), reversed(backs), strict=True):
            of_weights, gradient = back(gradient)
            points.append(np.asarray(gradient, np.float32))
            paths = [variable.path for variable in segment.trainable_variables]
            weights |= {path: np.asarray(each, np.float32) for path, each in zip(paths, of_weights, strict=True)}
        return points[::-1], weights


BACKEND = Jax()


def _room() -> int:
    """Return how many bytes of images may stay on the device: a quarter of a card's memory, or of HOST_ROOM."""
    told: Any = jax.devices()[0].memory_stats()
    return int(told["bytes_limit"]) // 4 if told else HOST_ROOM

"""JAX: Keras' own layers and optimisers; images and variables stay on the device, and one call takes many steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import keras
import numpy as np

from resblock.core.backends.batches import leading_batches, small_batches
from resblock.core.splits import Split

STEPS_PER_CALL = 50  # Python and transfers cost per call; more would only make progress jump

State = tuple[list[Any], list[Any], list[Any]]  # trainable variables, the other ones, the optimiser's


class Steps:
    """Keras' variables are brought up to date after each epoch."""

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split) -> None:
        images, labels = jax.device_put(train.images), jax.device_put(train.labels)

        def objective(trainable: list[Any], others: list[Any], batch: Any, answers: Any) -> tuple[Any, Any]:
            logits, others, penalties = model.stateless_call(
                trainable, others, batch, training=True, return_losses=True
            )
            likelihoods = jnp.take_along_axis(jax.nn.log_softmax(logits), answers[:, None], axis=-1)[:, 0]  # (batch,)
            return -jnp.mean(likelihoods) + sum(penalties), (others, logits, likelihoods)

        def step(state: State, indices: Any) -> tuple[State, Any]:
            trainable, others, moments = state
            batch, answers = images[indices], labels[indices]
            differentiate: Any = jax.value_and_grad(objective, has_aux=True)
            (_, (others, logits, likelihoods)), gradients = differentiate(trainable, others, batch, answers)
            trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
            correct = jnp.sum(jnp.argmax(logits, axis=-1) == answers)
            return (trainable, others, moments), jnp.stack([-jnp.sum(likelihoods), correct.astype(jnp.float32)])

        self._steps: Any = jax.jit(lambda state, indices: jax.lax.scan(step, state, indices), donate_argnums=0)
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        # Donated memory must be nobody else's.
        state: Any = tuple([jnp.copy(variable.value) for variable in group] for group in self._variables)
        sums: list[Any] = []
        done = 0
        while done < len(batches):
            call = leading_batches(batches[done:], STEPS_PER_CALL)
            state, pairs = self._steps(state, jnp.asarray(call))
            sums.append(pairs)
            done += len(call)
            moved(done)
        for group, values in zip(self._variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return np.concatenate([np.asarray(pairs, np.float64) for pairs in sums])


class Inference:
    """Compiled once for each network."""

    def __init__(self, model: keras.Model) -> None:
        def logits(trainable: list[Any], others: list[Any], images: Any) -> Any:
            return cast(Any, model.stateless_call(trainable, others, images, training=False))[0]

        self._model = model
        self._logits: Any = jax.jit(logits)

    def logits(self, images: np.ndarray) -> np.ndarray:
        trainable = [variable.value for variable in self._model.trainable_variables]
        others = [variable.value for variable in self._model.non_trainable_variables]
        return np.concatenate([np.asarray(self._logits(trainable, others, batch)) for batch in small_batches(images)])

    def observe(self, images: np.ndarray) -> None:
        self._model(images, training=True)


class Jax:
    """See `resblock.core.backends.Backend`."""

    name: Literal["jax"] = "jax"

    def set_up(self, threads: int) -> None:
        os.environ["NPROC"] = str(threads)  # read when the first computation starts the runtime
        keras.ops.zeros(1)

    def accelerator(self) -> str | None:
        device = jax.devices()[0]
        return None if device.platform == "cpu" else str(device.device_kind)

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

    def inference(self, model: keras.Model) -> Inference:
        return Inference(model)

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

"""TensorFlow: layers and optimisers in fewer passes over memory than Keras' own, steps in one graph.

A training step of these small images waits for memory more than for arithmetic. docs/performance.md says what each
piece gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, cast

import keras
import numpy as np
import tensorflow as tf

from resblock.core.backends.batches import batches_of, gather, leading_batches, most_steps, small_batches
from resblock.core.backends.normalization import normalizations, observing
from resblock.core.backends.protocol import BatchStatistics
from resblock.core.splits import Split

CALL_SECONDS = 0.5  # Python costs a millisecond or two per call; a signal waits for a call's end

Gradient = Callable[[Any], Any]


class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over channels, computed by ``FusedBatchNormV3``.

    Inputs and outputs: float (batch, height, width, channel), any precision the kernel takes; statistics are float32.
    Equal to Keras' layer in training, inference and moving statistics, within float tolerance.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable):
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                self.gamma.value,
                self.beta.value,
                mean=self.moving_mean.value,
                variance=self.moving_variance.value,
                epsilon=self.epsilon,
                is_training=False,
            )
            return outputs
        outputs, mean, unbiased = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        # The kernel applies Bessel's correction, Keras keeps the biased variance.
        variance = unbiased * ((count - 1) / count)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving.value * self.momentum + batch * (1 - self.momentum))
        return outputs


class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU` of default options, faster under bfloat16 behind a sum.

    TensorFlow's bfloat16 ReLU works through one number at a time. A bfloat16 is positive exactly if its bits, read as a
    signed integer, are: the vectorised int16 maximum gives the same bits.
    """

    def call(self, inputs: Any) -> Any:
        # Behind a batch norm or a bias TensorFlow merges the standard operation into what comes before it.
        follows_sum = getattr(getattr(inputs, "op", None), "type", "") == "AddV2"
        return _bfloat16_relu(inputs) if follows_sum and inputs.dtype == tf.bfloat16 else tf.nn.relu(inputs)


class RandomFlip(keras.layers.RandomFlip):
    """`keras.layers.RandomFlip` that picks whole images by their coins.

    Keras spreads each coin over an image's pixels, and TensorFlow then selects value by value. The images are the same.
    Inputs and outputs: (batch, height, width, channel).
    """

    def transform_images(self, images: Any, transformation: Any, training: bool = True) -> Any:
        images = tf.cast(images, self.compute_dtype)
        if transformation is None:  # at inference
            return images
        axes = {"vertical": [1], "horizontal": [2], "horizontal_and_vertical": [1, 2]}[self.mode]
        coins = tf.reshape(transformation["flips"], [-1])  # (batch,)
        return tf.raw_ops.Select(condition=coins, x=tf.reverse(images, axes), y=images)


class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` without weight decay, averaging or AMSGrad, in one operation per variable.

    The rule and the states are Keras' own, which takes a dozen operations; what differs is rounding.
    """

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        step = tf.cast(self.iterations.value + 1, tf.float32)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle,
                beta1_power=tf.pow(self.beta_1, step),
                beta2_power=tf.pow(self.beta_2, step),
                lr=tf.cast(learning_rate, tf.float32),
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=tf.cast(gradient, tf.float32),
            )


class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` without weight decay or averaging, with momentum in one operation per variable."""

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if not self.momentum:  # then Keras keeps no state for it
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.value.handle,
                accum=self.momentums[self._get_variable_index(variable)].value.handle,
                lr=tf.cast(learning_rate, tf.float32),
                grad=tf.cast(gradient, tf.float32),
                momentum=self.momentum,
                use_nesterov=self.nesterov,
            )


class Steps:
    """One graph, as many steps in a call as half a second takes; their images are handed over with it.

    With `xla` each step is compiled by XLA: for graphics cards, since on a processor it halves the speed.
    """

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split, *, xla: bool = False
    ) -> None:
        self._train = train

        def step(pair: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            batch, answers = pair
            with tf.GradientTape() as tape:
                logits = model(batch, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(answers, logits)  # (batch,)
                objective = tf.reduce_mean(losses) + tf.add_n(model.losses or [tf.constant(0.0)])
            gradients = tape.gradient(objective, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            correct = tf.equal(tf.argmax(logits, axis=-1, output_type=tf.int32), answers)
            return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(tf.cast(correct, tf.float32))])

        shape = train.images.shape[1:]

        take: Any = tf.function(step, jit_compile=True) if xla else step

        @tf.function(
            input_signature=[tf.TensorSpec([None, None, *shape], tf.uint8), tf.TensorSpec([None, None], tf.int32)]
        )
        def steps(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(take, (images, labels), parallel_iterations=1, fn_output_signature=tf.float32)

        self._steps = steps
        self._steps_per_call = 1

    def train(self, batches: Sequence[np.ndarray], moved: Callable[[int], None]) -> np.ndarray:
        sums: list[np.ndarray] = []
        done = 0
        while done < len(batches):
            most = min(self._steps_per_call, most_steps(self._train, len(batches[done])))
            call = leading_batches(batches[done:], most)
            began = time.perf_counter()
            images, labels = gather(self._train, call)
            sums.append(self._steps(tf.constant(images), tf.constant(labels)).numpy())
            self._steps_per_call = max(1, int(CALL_SECONDS / (time.perf_counter() - began) * len(call)))
            done += len(call)
            moved(done)
        return np.concatenate(sums).astype(np.float64)


class Inference:
    """One graph for each kind of pass, or layer by layer."""

    def __init__(self, model: keras.Model, *, compiled: bool = True) -> None:
        self._model, self._compiled = model, compiled
        self._images = [tf.TensorSpec(model.inputs[0].shape, tf.uint8)]

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate([self._forward(tf.constant(batch)).numpy() for batch in small_batches(images)])

    def statistics(self, images: np.ndarray, batch_size: int) -> list[BatchStatistics]:
        seen = [self._observe(tf.constant(batch)) for batch in batches_of(images, batch_size)]
        return [
            BatchStatistics(*(np.stack([batch[layer][kind].numpy() for batch in seen]) for kind in range(2)))
            for layer in range(len(normalizations(self._model)))
        ]

    @cached_property
    def _forward(self) -> Any:
        return self._graph(lambda images: self._model(images, training=False))

    @cached_property
    def _observe(self) -> Any:
        def observe(images: tf.Tensor) -> list[list[tf.Tensor]]:
            with observing(self._model) as layers:
                self._model(images, training=True)
                # Copies: layer by layer, the variables themselves would be overwritten by the next batch.
                return [[tf.identity(each.value) for each in (n.moving_mean, n.moving_variance)] for n in layers]

        return self._graph(observe)

    def _graph(self, passing: Callable[[tf.Tensor], Any]) -> Any:
        return tf.function(passing, input_signature=self._images) if self._compiled else passing


class TensorFlow:
    """See `resblock.core.backends.protocol.Backend`."""

    name: Literal["tensorflow"] = "tensorflow"

    def set_up(self, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for card in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(card, True)  # several trainings share it
        tf.get_logger().setLevel("ERROR")  # it warns of one network after the other, which is meant
        tf.zeros(1)  # start the runtime here, where its greetings are not heard

    def accelerator(self) -> str | None:
        cards = tf.config.list_physical_devices("GPU")
        if not cards:
            return None
        return str(tf.config.experimental.get_device_details(cards[0]).get("device_name", cards[0].name))

    def float32_arithmetic(self) -> str:
        short = self.accelerator() and tf.config.experimental.tensor_float_32_execution_enabled()
        return "tf32" if short else "float32"

    def batch_normalization(self, *, momentum: float, epsilon: float, name: str, dtype: Any) -> Any:
        # float32 statistics and scales whatever the inputs' precision: the fused operation wants them so.
        options: dict[str, Any] = {"momentum": momentum, "epsilon": epsilon, "name": name}
        return BatchNormalization(**options, dtype="float32", autocast=False)

    def relu(self, *, name: str, dtype: Any) -> Any:
        return ReLU(name=name, dtype=dtype)

    def random_flip(self, mode: str, *, seed: int, name: str) -> Any:
        return RandomFlip(mode, seed=seed, dtype="float32", name=name)

    def adam(self, learning_rate: Any) -> Any:
        return Adam(learning_rate)

    def sgd(self, learning_rate: Any, *, momentum: float, nesterov: bool) -> Any:
        return SGD(learning_rate, momentum=momentum, nesterov=nesterov)

    def steps(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Split) -> Steps:
        return Steps(model, optimizer, train, xla=self.accelerator() is not None)

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
        weights = [variable for segment in segments for variable in segment.trainable_variables]
        points: list[tf.Tensor] = []
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            for segment in segments:
                tape.watch(x)
                points.append(x)
                x = segment(x, training=training)
        # Its type stub knows lists only, of one kind.
        found: list[Any] = cast(Any, tape.gradient)(
            x,
            [*points, *(variable.value for variable in weights)],
            output_gradients=tf.constant(outward(x.numpy())),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        arrays = [tf.cast(gradient, tf.float32).numpy() for gradient in found]
        paths = [variable.path for variable in weights]
        return arrays[: len(points)], dict(zip(paths, arrays[len(points) :], strict=True))


BACKEND = TensorFlow()


@tf.custom_gradient
def _bfloat16_relu(x: Any) -> tuple[Any, Gradient]:
    outputs = tf.bitcast(tf.maximum(tf.bitcast(x, tf.int16), tf.constant(0, tf.int16)), tf.bfloat16)
    return outputs, lambda upstream: tf.raw_ops.ReluGrad(gradients=upstream, features=outputs)

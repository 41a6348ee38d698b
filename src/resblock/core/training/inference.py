"""What a network's logits are worth."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 (n, class), from logits, float (n, class)."""
    shares = np.exp(_shifted(logits))
    return shares / shares.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, float64 (n, class), from logits, float (n, class)."""
    shifted = _shifted(logits)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy in nats of logits, float (n, class), for labels, int (n,)."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images whose largest logit, float (n, class), stands at their label, int (n,)."""
    return float((logits.argmax(axis=-1) == labels).mean())


def _shifted(logits: np.ndarray) -> np.ndarray:
    """Return logits less the largest of each image, which changes no probability and lets none overflow."""
    wide = logits.astype(np.float64)
    return wide - wide.max(axis=-1, keepdims=True)

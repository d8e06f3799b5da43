"""Classification losses on soft targets, one value per example.

The mean over the global batch, and the weights of padded examples, belong to
the train and evaluation steps.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from coatnet_jax.errors import UserError
from coatnet_jax.values import OneOf, Options, Range


def _compute_softmax_loss(
  logits: jax.Array, targets: jax.Array, label_smoothing: float
) -> jax.Array:
  targets = optax.losses.smooth_labels(targets, label_smoothing)
  return optax.losses.softmax_cross_entropy(logits, targets)


def _compute_sigmoid_loss(
  logits: jax.Array, targets: jax.Array, label_smoothing: float
) -> jax.Array:
  targets = targets * (1 - 2 * label_smoothing) + label_smoothing
  return optax.losses.sigmoid_binary_cross_entropy(logits, targets).sum(-1)


class _Loss(NamedTuple):
  """A kind of loss.

  Attributes:
    compute: function of logits [B, K], targets [B, K] and the label smoothing,
      all float32, that gives losses [B].
    probabilities: function of logits [B, K] that gives the probabilities [B, K]
      that they mean under this loss.
    smoothing_limit: label smoothing at which targets say nothing any more.
  """

  compute: Callable[[jax.Array, jax.Array, float], jax.Array]
  probabilities: Callable[[jax.Array], jax.Array]
  smoothing_limit: float


LOSSES = {
  'softmax': _Loss(_compute_softmax_loss, jax.nn.softmax, 1.0),
  'sigmoid': _Loss(_compute_sigmoid_loss, jax.nn.sigmoid, 0.5),
}


CLASS_WEIGHTS = ('none', 'inverse')


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossOptions(Options, section='config.loss'):
  """What the loss is; `compute_loss` says what the smoothing means.

  Attributes:
    kind: 'softmax' (classes exclude each other) or 'sigmoid' (each class is a
      question of its own).
    label_smoothing: part in [0, 1) for softmax, in [0, 0.5) for sigmoid.
    class_weights: how much an example of a class counts in training: 'none',
      all the same, or 'inverse', as `compute_class_weights` says.

  Raises:
    UserError: Unknown kind, or a smoothing out of its range.
  """

  kind: Annotated[str, OneOf(LOSSES)]
  label_smoothing: Annotated[float, Range(at_least=0, below=1)]
  # Configs of older checkpoints have none.
  class_weights: Annotated[str, OneOf(CLASS_WEIGHTS)] = 'none'

  def check(self):
    """Raises UserError for a smoothing that leaves the kind no targets."""
    limit = LOSSES[self.kind].smoothing_limit
    if self.label_smoothing >= limit:
      raise UserError(
        f'config.loss.label_smoothing is {self.label_smoothing}; it must be'
        f' below {limit} where config.loss.kind is {self.kind!r}.'
      )


def compute_class_weights(counts: Sequence[int]) -> tuple[float, ...]:
  """Returns weights with which classes count as much as each other.

  N / (K n), for a class of n among N examples of K classes, so that an example
  has the weight 1 on average. A class without examples has the weight 0.

  >>> compute_class_weights([30, 10])
  (0.6666666666666666, 2.0)

  Args:
    counts: number of examples of each class, [K].
  """
  total, num_classes = sum(counts), sum(count > 0 for count in counts)
  return tuple(
    float(total / (num_classes * count)) if count else 0.0 for count in counts
  )


def create_soft_targets(labels: jax.Array, num_classes: int) -> jax.Array:
  """Returns targets [B, K] float32 for labels of either kind.

  >>> create_soft_targets(jnp.array([2, 0]), num_classes=3).tolist()
  [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]

  Args:
    labels: [B] integer classes, which become one-hot, or [B, K] float soft
      labels, which stay. A class outside 0 .. K - 1 becomes a row of zeros:
      reading the data is what refuses it.
    num_classes: number of classes, K.

  Raises:
    ValueError: `labels` is neither.
  """
  if labels.ndim == 1 and jnp.issubdtype(labels.dtype, jnp.integer):
    return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
  is_soft = jnp.issubdtype(labels.dtype, jnp.floating)
  if labels.ndim == 2 and labels.shape[1] == num_classes and is_soft:
    return labels.astype(jnp.float32)
  raise ValueError(
    f'Labels are {labels.dtype}{list(labels.shape)}; they must be [B] integers'
    f' or [B, {num_classes}] floats.'
  )


def compute_loss(
  logits: jax.Array,
  targets: jax.Array,
  *,
  options: LossOptions,
  class_weights: Sequence[float] = (),
) -> jax.Array:
  """Returns the loss of each example.

  'softmax' is the cross-entropy with targets t * (1 - s) + s / K, for label
  smoothing s. 'sigmoid' is the sum over classes of binary cross-entropies
  with targets t * (1 - 2 s) + s: a class that is present is asked for with
  probability 1 - s, one that is absent with s. The paper names s = 0.0001 for
  its sigmoid runs and no formula; ours is the reading of the ImageNet-21k
  configs in google/uncertainty-baselines (on = 0.9999, off = 0.0001), whose
  batch, epochs, learning rate and decay are the paper's too.

  >>> options = LossOptions(kind='softmax', label_smoothing=0.0)
  >>> targets = create_soft_targets(jnp.array([0, 1]), num_classes=2)
  >>> loss = compute_loss(jnp.zeros((2, 2)), targets, options=options)
  >>> [f'{x:.4f}' for x in loss.tolist()]
  ['0.6931', '0.6931']

  Args:
    logits: [B, K], any float dtype; computed in float32.
    targets: [B, K] soft labels, of any float dtype: `create_soft_targets`.
    options: kind and label smoothing.
    class_weights: weight of each class, [K], by which an example's loss is
      multiplied: the mean over its targets, before they are smoothed; none for
      1.

  Returns:
    [B] float32.

  Raises:
    ValueError: The two shapes differ; they would be broadcast.
  """
  if logits.ndim != 2 or logits.shape != targets.shape:
    raise ValueError(
      f'logits are {list(logits.shape)} and targets {list(targets.shape)}; both'
      ' must be [B, K].'
    )
  targets = targets.astype(jnp.float32)
  losses = LOSSES[options.kind].compute(
    logits.astype(jnp.float32), targets, options.label_smoothing
  )
  if not len(class_weights):
    return losses
  return losses * (targets @ jnp.asarray(class_weights, jnp.float32))


def compute_probabilities(logits: jax.Array, options: LossOptions) -> jax.Array:
  """Returns the probabilities that logits mean under a loss.

  >>> options = LossOptions(kind='sigmoid', label_smoothing=0.0)
  >>> compute_probabilities(jnp.zeros((1, 3)), options).tolist()
  [[0.5, 0.5, 0.5]]

  Args:
    logits: [B, K], any float dtype; computed in float32.
    options: options of the loss, of which only the kind counts.

  Returns:
    [B, K] float32: those of an example add up to 1 for 'softmax' and are
    independent of each other for 'sigmoid'.
  """
  return LOSSES[options.kind].probabilities(logits.astype(jnp.float32))

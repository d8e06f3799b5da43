"""Linear probe: multinomial logistic regression on frozen features.

As CLIP's (arXiv 2103.00020, appendix A.3): L-BFGS on the features of all
training images, with the L2 penalty that is best on a held-out part of them.
Features are standardised over the training images.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.image_source import ImageSource, format_count
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.features import collect_features, compute_features
from coatnet_jax.evaluation.few_shot import check_same_classes
from coatnet_jax.evaluation.measures import (
  Predictions,
  Tally,
  find_single_label_hits,
)
from coatnet_jax.inference import rate_logits
from coatnet_jax.training.losses import LossOptions

# Penalties beside the mean loss, the strongest first: each fit starts from the
# solution before.
L2_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
# Part of the training images that the penalty is chosen by.
HELD_OUT_FRACTION = 0.1
MAX_HELD_OUT = 10_000
# Iterations of one fit, as many as CLIP's.
MAX_ITERATIONS = 1000
# The largest part of the gradient of the mean loss at which it has converged;
# that of scikit-learn's L-BFGS, which CLIP used.
TOLERANCE = 1e-4
# Rows whose logits are in memory at a time.
_BLOCK_ROWS = 16_384
_EPSILON = 1e-5
_LOSS = LossOptions(kind='softmax', label_smoothing=0.0)


class Weights(NamedTuple):
  """Kernel [D, K] and bias [K] of a linear classifier, float32."""

  kernel: jax.Array
  bias: jax.Array


@functools.partial(jax.jit, static_argnames='max_iterations')
def fit_logistic_regression(
  start: Weights,
  features: jax.Array,
  labels: jax.Array,
  weight: jax.Array,
  l2_penalty: float,
  max_iterations: int = MAX_ITERATIONS,
) -> tuple[Weights, jax.Array]:
  """Minimises mean cross-entropy + l2_penalty / 2 * |kernel|^2 by L-BFGS.

  Args:
    start: weights and bias to start from.
    features: [blocks, rows, D] float32, the rows sharded over devices or not;
      the logits of one block at a time are in memory.
    labels: true class of each, [blocks, rows] int32.
    weight: [blocks, rows] float32, 0 for padding and 1 for an example.
    l2_penalty: L2 penalty of the kernel; the bias has none.
    max_iterations: number of iterations after which it ends, or before that at
      `TOLERANCE`.

  Returns:
    The weights, and the largest absolute gradient there, float32.
  """
  count = weight.sum()

  @jax.checkpoint
  def block_loss(weights, features, labels, weight):
    # A TPU's default rounds to bfloat16: too coarse for a line search.
    logits = jnp.matmul(
      features, weights.kernel, precision=jax.lax.Precision.HIGHEST
    )
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(
      logits + weights.bias, labels
    )
    return (losses * weight).sum()

  def objective(weights):
    def add_block(total, block):
      return total + block_loss(weights, *block), None

    total, _ = jax.lax.scan(
      add_block, jnp.zeros(()), (features, labels, weight)
    )
    return total / count + l2_penalty / 2 * jnp.square(weights.kernel).sum()

  solver = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(objective)

  def iterate(carry):
    weights, state = carry
    value, grad = value_and_grad(weights, state=state)
    updates, state = solver.update(
      grad, state, weights, value=value, grad=grad, value_fn=objective
    )
    return optax.apply_updates(weights, updates), state

  def largest_gradient(state):
    return optax.tree.norm(optax.tree.get(state, 'grad'), ord=jnp.inf)

  def goes_on(carry):
    iterations = optax.tree.get(carry[1], 'count')
    converged = largest_gradient(carry[1]) < TOLERANCE
    return (iterations == 0) | ((iterations < max_iterations) & ~converged)

  weights, state = jax.lax.while_loop(
    goes_on, iterate, (start, solver.init(start))
  )
  return weights, largest_gradient(state)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe:
  """A classifier of features.

  Attributes:
    weights: kernel and bias for standardised features.
    mean: [D], the mean of the training images' features.
    std: [D], the standard deviation of the training images' features.
    l2_penalty: L2 penalty that was chosen.
    held_out_top1: pairs (penalty, top-1 on the held-out part) of all penalties.
    largest_gradient: largest gradient at the end of the last fit; over
      `TOLERANCE` where it stopped at `MAX_ITERATIONS`.
  """

  weights: Weights
  mean: np.ndarray
  std: np.ndarray
  l2_penalty: float
  held_out_top1: tuple[tuple[float, float], ...]
  largest_gradient: float

  def logits(self, features: np.ndarray) -> np.ndarray:
    """Returns [n, K] float32 for features [n, D]."""
    kernel, bias = (np.asarray(array) for array in self.weights)
    return ((features - self.mean) / self.std) @ kernel + bias


def fit_linear_probe(
  features: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  mesh: Mesh,
  l2_penalties: Sequence[float] = L2_PENALTIES,
) -> LinearProbe:
  """Chooses a penalty on a held-out part, and fits on everything.

  Args:
    features: [N, D] float32; overwritten by standardised ones, not to hold
      both.
    labels: true class of each, [N] integers.
    num_classes: number of classes, K.
    mesh: mesh of the devices that the features are sharded over.
    l2_penalties: penalties to choose from, the strongest first, which is taken
      where several are equally good.

  Raises:
    UserError: there are fewer than two training images.
  """
  count = len(features)
  if count < 2:
    raise UserError(
      'The training split, config.data.train_split or --data.train_split, has'
      f' {format_count(count, "image")}; a linear probe is fitted to 2 or more.'
    )
  mean, std = features.mean(axis=0), features.std(axis=0) + _EPSILON
  features -= mean
  features /= std
  num_held_out = max(1, min(MAX_HELD_OUT, int(HELD_OUT_FRACTION * count)))
  held_out = np.zeros(count, bool)
  rows = np.random.default_rng(0).permutation(count)[:num_held_out]
  held_out[rows] = True
  arrays = [_place(array, mesh) for array in (features, labels)]
  start = Weights(
    kernel=jnp.zeros((features.shape[1], num_classes)),
    bias=jnp.zeros(num_classes),
  )
  start = jax.device_put(start, mesh_lib.create_replicated_sharding(mesh))
  fitted = {}
  part = _place((~held_out).astype(np.float32), mesh)
  weights = start
  for penalty in l2_penalties:
    weights, _ = fit_logistic_regression(weights, *arrays, part, penalty)
    kernel, bias = (np.asarray(array) for array in weights)
    predicted = (features[held_out] @ kernel + bias).argmax(axis=-1)
    fitted[penalty] = (float((predicted == labels[held_out]).mean()), weights)
  # The first of the best.
  best = max(fitted, key=lambda penalty: fitted[penalty][0])
  everything = _place(np.ones(count, np.float32), mesh)
  weights, gradient = fit_logistic_regression(
    fitted[best][1], *arrays, everything, best
  )
  return LinearProbe(
    weights=jax.device_get(weights),
    mean=mean,
    std=std,
    l2_penalty=best,
    held_out_top1=tuple((key, top1) for key, (top1, _) in fitted.items()),
    largest_gradient=float(gradient),
  )


def _place(array: np.ndarray, mesh: Mesh) -> jax.Array:
  """Divides [N, ...] over the devices, as [blocks, rows, ...] with padding."""
  shards = mesh_lib.count_batch_shards(mesh)
  rows = -(-min(len(array), _BLOCK_ROWS) // shards) * shards
  if padding := -len(array) % rows:
    array = np.pad(array, ((0, padding), *((0, 0),) * (array.ndim - 1)))
  array = array.reshape(-1, rows, *array.shape[1:])
  if np.issubdtype(array.dtype, np.integer):
    array = array.astype(np.int32)
  spec = PartitionSpec(None, mesh_lib.BATCH_AXES)
  return jax.device_put(array, NamedSharding(mesh, spec))


def evaluate_linear_probe(
  trained: TrainedModel,
  train_source: ImageSource,
  eval_source: ImageSource,
  **run: Any,
) -> dict[str, Any]:
  """Evaluates a model's features by a linear classifier of them.

  The features of all training images are kept, in float32.

  Args:
    trained: model with its weights; its classes don't matter.
    train_source: images that the classifier is fitted to.
    eval_source: images that it is evaluated on.
    **run: keyword arguments of `compute_features`: data, batch_size and
      report_undecodable.

  Returns:
    What `Tally.summarize` has; 'train_count', 'l2_penalty', 'held_out' (a
    list of 'l2_penalty' and 'top1'), 'largest_gradient' and 'converged'.

  Raises:
    UserError: the classes of the two sources differ, there are no images, or
      more of them cannot be decoded than may be.
  """
  check_same_classes(train_source, eval_source)
  batches = compute_features(trained, train_source, **run)
  _, features, labels = collect_features(batches, len(train_source))
  train_count = len(labels)
  probe = fit_linear_probe(
    features, labels, train_source.num_classes, trained.mesh
  )
  tally = Tally(train_source.num_classes)
  rate = jax.jit(functools.partial(rate_logits, loss=_LOSS))
  for indices, features, labels in compute_features(
    trained, eval_source, **run
  ):
    rated = jax.device_get(rate(probe.logits(features), labels))
    predictions = Predictions.create(indices, labels, rated)
    tally.update(predictions, find_single_label_hits(predictions))
  return {
    **tally.summarize(),
    'train_count': train_count,
    'l2_penalty': probe.l2_penalty,
    'held_out': [
      {'l2_penalty': penalty, 'top1': top1}
      for penalty, top1 in probe.held_out_top1
    ],
    'largest_gradient': probe.largest_gradient,
    'converged': probe.largest_gradient < TOLERANCE,
  }

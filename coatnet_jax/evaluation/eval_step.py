"""The evaluation during training: top-1, top-5 and loss of a whole split.

What can be said of a checkpoint besides: the other modules here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.damage import CorruptImageCounter
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed import processes
from coatnet_jax.evaluation.average_precision import (
  compute_mean_average_precision,
)
from coatnet_jax.evaluation.dispatch import jit_step, read_behind
from coatnet_jax.inference import compute_logits, compute_losses, rate_logits
from coatnet_jax.stopping import StoppedError
from coatnet_jax.training import metrics as metrics_lib
from coatnet_jax.training.losses import LossOptions

# Images of an evaluation that are kept to be shown.
_NUM_SHOWN = 16


class EvaluatedExamples(NamedTuple):
  """What was predicted of each example of a split, in the split's order.

  Attributes:
    labels: true classes, [N] int32.
    predicted: predicted classes, [N] int32; -1 where a logit is NaN.
    confidences: probability of each prediction, [N] float32.
    images: the first of the images as the model sees them, [M, H, W, 3] uint8;
      none where several processes read them.
  """

  labels: np.ndarray
  predicted: np.ndarray
  confidences: np.ndarray
  images: np.ndarray


def eval_step(
  variables: Any,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  loss: LossOptions,
  preprocessing: PreprocessingOptions,
  candidates: tuple[int, ...] | None = None,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Evaluates one batch.

  Args:
    variables: variables of the model: 'params' and 'batch_stats'.
    batch: 'image' [B, H, W, 3] uint8, 'label' [B] int32 or [B, K] float32,
      'mask' [B] bool, the global batch.
    model: network to apply, from `create_model`.
    loss: options of the loss, of which only the kind counts: labels are not
      smoothed.
    preprocessing: mean and standard deviation of the pixels.
    candidates: classes whose logits count, None for all; see `LabelSpace`.

  Returns:
    Sums over the examples of the mask: `metrics.compute_metric_sums`. And what
    is kept of each example: 'mask' and 'label' of the batch; of examples with
    several labels 'logits' [B, K], of others 'predicted' and 'confidence' [B],
    as in `EvaluatedExamples`.
  """
  logits = compute_logits(
    variables, batch['image'], model=model, preprocessing=preprocessing
  )
  if candidates is not None:
    logits = logits[:, np.array(candidates)]
  losses = compute_losses(logits, batch['label'], loss)
  sums = metrics_lib.compute_metric_sums(
    logits, batch['label'], batch['mask'], losses
  )
  rows = {name: batch[name] for name in ('label', 'mask')}
  if batch['label'].ndim == 2:
    return sums, {**rows, 'logits': logits}
  rated = rate_logits(logits, batch['label'], loss)
  predicted = jnp.where(rated['valid'], rated['classes'][:, 0], -1)
  rows |= {'predicted': predicted, 'confidence': rated['confidence']}
  return sums, rows


def evaluate(
  variables: Any,
  batches: Collection[Mapping[str, np.ndarray]],
  *,
  model: nn.Module,
  loss: LossOptions,
  preprocessing: PreprocessingOptions,
  source: ImageSource,
  max_damaged_fraction: float,
  mesh: Mesh,
  should_stop: Callable[[], bool] = lambda: False,
  observe: Callable[[EvaluatedExamples], None] = lambda examples: None,
) -> dict[str, float] | None:
  """Evaluates every example of the batches once, over all processes.

  Args:
    variables: variables of the model, 'params' and 'batch_stats', on the mesh.
    batches: rows of each batch that this process reads, from
      `batching.create_eval_batches`.
    model: network to apply, from `create_model`.
    loss: options of the loss, of which only the kind counts: labels are not
      smoothed.
    preprocessing: mean and standard deviation of the pixels.
    source: images that the batches are of, to name those that cannot be
      decoded.
    max_damaged_fraction: largest part that may be damaged; see
      `damage.count_allowed_damage`.
    mesh: devices of the run, from `create_mesh`.
    should_stop: function called after each batch, which says the same on all
      processes: whether to leave the rest.
    observe: function called at the end with what was predicted of each example,
      unless examples have several labels.

  Returns:
    'loss', 'top1', 'top5' (0..1) and 'count', the number of examples; and first
    'mean_average_precision' where examples have several labels, else last
    'mean_class_accuracy'. None where it was stopped before all of them were
    evaluated.
  """
  step = jit_step(
    eval_step, mesh, model=model, loss=loss, preprocessing=preprocessing
  )
  corrupt = CorruptImageCounter(source, max_damaged_fraction)

  images = np.zeros((0,))

  def compute_batches():
    nonlocal images
    for number, batch in enumerate(batches, 1):
      processes.begin(
        'evaluating',
        f'batch {number} of {len(batches)}',
        (number - 1) / len(batches),
      )
      corrupt.update(batch)
      if number == 1:
        images = batch['image'][batch['mask']][:_NUM_SHOWN]
      batch = mesh_lib.put_batch(batch, mesh, ('image', 'label', 'mask'))
      yield step(variables, batch)
      if should_stop():
        raise StoppedError

  try:
    outputs = list(read_behind(compute_batches()))
  except StoppedError:  # Perhaps while it waited for images.
    return None
  metrics = metrics_lib.normalize_metrics(
    metrics_lib.total_metric_sums(sums for sums, _ in outputs)
  )
  kept = _join_examples([rows for _, rows in outputs])
  if source.has_several_labels:
    precision = compute_mean_average_precision(kept['logits'], kept['label'])
    return {'mean_average_precision': precision, **metrics}
  metrics['mean_class_accuracy'] = _measure_classes(
    kept['label'], kept['predicted'], len(source.class_names)
  )
  if jax.process_count() > 1:
    images = images[:0]  # Of this process: they may not be the first.
  observe(
    EvaluatedExamples(
      kept['label'], kept['predicted'], kept['confidence'], images
    )
  )
  return metrics


def _join_examples(
  batches: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns what is kept of all examples, without padding, [N, ...]."""
  mask = np.concatenate([rows['mask'] for rows in batches])
  return {
    name: np.concatenate([rows[name] for rows in batches])[mask]
    for name in batches[0]
  }


def _measure_classes(
  labels: np.ndarray, predicted: np.ndarray, num_classes: int
) -> float:
  """Returns the mean of the classes' accuracies, of [N] int32 each."""
  hits = labels[labels == predicted]
  return metrics_lib.compute_mean_class_accuracy(
    np.bincount(hits, minlength=num_classes),
    np.bincount(labels, minlength=num_classes),
  )

"""The evaluation during training: top-1, top-5 and loss of a whole split.

What can be said of a checkpoint besides: the other modules here.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
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
from coatnet_jax.evaluation.dispatch import read_behind
from coatnet_jax.inference import compute_logits, compute_losses
from coatnet_jax.stopping import StoppedError
from coatnet_jax.training import metrics as metrics_lib
from coatnet_jax.training.losses import LossOptions


def eval_step(
  variables: Any,
  batch: Mapping[str, jax.Array],
  *,
  model: nn.Module,
  loss: LossOptions,
  preprocessing: PreprocessingOptions,
) -> dict[str, jax.Array]:
  """Evaluates one batch.

  Args:
    variables: variables of the model: 'params' and 'batch_stats'.
    batch: 'image' [B, H, W, 3] uint8, 'label' [B] int32 or [B, K] float32,
      'mask' [B] bool, the global batch.
    model: network to apply, from `create_model`.
    loss: options of the loss, of which only the kind counts: labels are not
      smoothed.
    preprocessing: mean and standard deviation of the pixels.

  Returns:
    Sums over the examples of the mask: `metrics.compute_metric_sums`. Of
    examples with several labels 'logits' and 'targets' [B, K] besides, and
    'mask' [B].
  """
  logits = compute_logits(
    variables, batch['image'], model=model, preprocessing=preprocessing
  )
  losses = compute_losses(logits, batch['label'], loss)
  sums = metrics_lib.compute_metric_sums(
    logits, batch['label'], batch['mask'], losses
  )
  if batch['label'].ndim == 1:
    return sums
  rows = {'logits': logits, 'targets': batch['label'], 'mask': batch['mask']}
  return sums | rows


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

  Returns:
    'loss', 'top1', 'top5' (0..1) and 'count', the number of examples; first
    'mean_average_precision' where examples have several labels. None where it
    was stopped before all of them were evaluated.
  """
  step = _jit_eval_step(model, loss, preprocessing, mesh)
  corrupt = CorruptImageCounter(source, max_damaged_fraction)

  def compute_sums():
    for number, batch in enumerate(batches, 1):
      processes.begin(
        'evaluating',
        f'batch {number} of {len(batches)}',
        (number - 1) / len(batches),
      )
      corrupt.update(batch)
      batch = mesh_lib.put_batch(batch, mesh, ('image', 'label', 'mask'))
      yield step(variables, batch)
      if should_stop():
        raise StoppedError

  rows = []

  def take_rows(outputs):
    for output in outputs:
      rows.append(
        [output.pop(name) for name in ('logits', 'targets', 'mask')]
        if 'mask' in output
        else []
      )
      yield output

  try:
    sums = metrics_lib.total_metric_sums(take_rows(read_behind(compute_sums())))
  except StoppedError:  # Perhaps while it waited for images.
    return None
  metrics = metrics_lib.normalize_metrics(sums)
  if not source.has_several_labels:
    return metrics
  logits, targets, mask = map(np.concatenate, zip(*rows))
  precision = compute_mean_average_precision(logits[mask], targets[mask])
  return {'mean_average_precision': precision, **metrics}


@functools.cache
def _jit_eval_step(model, loss, preprocessing, mesh):
  return mesh_lib.jit(
    functools.partial(
      eval_step, model=model, loss=loss, preprocessing=preprocessing
    ),
    mesh,
    out_shardings=mesh_lib.create_replicated_sharding(mesh),
  )

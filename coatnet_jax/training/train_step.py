"""One optimizer step: from a state and a batch to the next state.

Needs of a run only what a step computes with, `StepOptions`, and so neither a
config nor data: benchmarks take the same step as `train.py`, on made-up images.
"""

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from coatnet_jax.training import accumulation, freezing, skipping, slices
from coatnet_jax.training.image_normalization import normalize_images
from coatnet_jax.training.losses import (
  LossOptions,
  compute_loss,
  create_soft_targets,
)
from coatnet_jax.training.metrics import compute_batch_top1
from coatnet_jax.training.mixup import MixupOptions, apply_mixup
from coatnet_jax.training.train_state import TrainState


class StepOptions(Protocol):
  """What a step needs of a `Run`, under the same names.

  Attributes:
    model: network to train, from `create_model`.
    preprocessing: `mean` and `std` of the pixels, as `config.preprocessing`.
    mixup: options of MixUp and CutMix.
    loss: options of the loss.
    class_weights: weight of each class in the loss; none for 1.
    tx: optimizer of the run.
    schedule: function of the number of updates, to the learning rate.
    frozen: patterns of the names of parameters that stay as they are.
    training: `gradient_accumulation_steps`, `ema_decay`, `ema_warmup` and
      `skip_nonfinite_steps` of `config.training`.
  """

  model: nn.Module
  preprocessing: Any
  mixup: MixupOptions
  loss: LossOptions
  class_weights: tuple[float, ...]
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  frozen: tuple[str, ...]
  training: Any


def prepare_inputs(
  state: TrainState, batch: Mapping[str, jax.Array], *, run: StepOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns what a step trains on: images, targets, and the key of dropout.

  Args:
    state: state before the step, of which the key and the step count.
    batch: global batch, as `train_step` takes it.
    run: resolved run, or what a step needs of one; static.

  Returns:
    Images [B, H, W, 3] float32, normalised and mixed; targets [B, K] float32;
    a key.
  """
  mixup_key, dropout_key = jax.random.split(
    jax.random.fold_in(state.key, state.step)
  )
  images = normalize_images(
    batch['image'], mean=run.preprocessing.mean, std=run.preprocessing.std
  )
  targets = create_soft_targets(batch['label'], run.model.num_classes)
  images, targets = apply_mixup(mixup_key, images, targets, options=run.mixup)
  return images, targets, dropout_key


def compute_gradients(
  state: TrainState, batch: Mapping[str, jax.Array], *, run: StepOptions
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """Returns a step's gradients, new batch statistics, and what it measures.

  That is float32 scalars, means over the batch: 'loss', and 'top1', the share
  of images predicted right, as `compute_batch_top1` says.

  Args:
    state: state before the step.
    batch: global batch, as `train_step` takes it.
    run: resolved run, or what a step needs of one; static.
  """
  images, targets, dropout_key = prepare_inputs(state, batch, run=run)
  model = freezing.freeze_modules(run.model, state.params, run.frozen)

  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss_and_gradients(params, batch_stats, part, index):
    params = freezing.stop_gradients(params, run.frozen)
    logits, updates = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      part['images'],
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': jax.random.fold_in(dropout_key, index)},
    )
    loss = compute_loss(
      logits,
      part['targets'],
      options=run.loss,
      class_weights=run.class_weights,
    ).mean()
    top1 = compute_batch_top1(logits, part['targets'])
    return loss, (updates.get('batch_stats', {}), {'loss': loss, 'top1': top1})

  def gradient_fn(*args):
    (_, (batch_stats, measures)), grads = loss_and_gradients(*args)
    return grads, batch_stats, measures

  num_parts = run.training.gradient_accumulation_steps
  accumulate = functools.partial(
    accumulation.accumulate_gradients,
    gradient_fn,
    num_parts=num_parts,
    batch_norm_momentum=run.model.batch_norm_momentum,
  )
  accumulate = slices.exchange_once(
    accumulate, run.model, part_size=len(images) // num_parts
  )
  grads, batch_stats, measures = accumulate(
    state.params, state.batch_stats, {'images': images, 'targets': targets}
  )
  batch_stats = freezing.keep_batch_stats(model, batch_stats, state.batch_stats)
  return grads, batch_stats, measures


def train_step(
  state: TrainState, batch: Mapping[str, jax.Array], *, run: StepOptions
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Takes one optimizer step.

  Args:
    state: state before the step; its buffers may be donated.
    batch: 'image' [B, H, W, 3] uint8 and 'label' [B] int32 or [B, K] float,
      the global batch. Every example counts: training batches have no
      padding.
    run: resolved run, or what a step needs of one; static.

  Returns:
    The state after it, and float32 scalars: 'loss' and 'top1', means over the
    batch; 'gradient_norm', the global norm before clipping; 'parameter_norm',
    that of the new parameters; 'learning_rate'; and, where steps may be
    skipped, 'skipped', whether this one was. Should another not be finite, the
    state is not worth keeping.
  """
  grads, batch_stats, measures = compute_gradients(state, batch, run=run)
  updates, opt_state = run.tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = {
    **measures,
    'gradient_norm': optax.tree.norm(grads),
    'parameter_norm': optax.tree.norm(params),
    'learning_rate': jnp.asarray(run.schedule(state.step), jnp.float32),
  }
  new_state = state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  new_state = new_state.update_ema(
    run.training.ema_decay, warmup=run.training.ema_warmup
  )
  if run.training.skip_nonfinite_steps:
    rate = run.schedule(skipping.count_updates(state))
    metrics['learning_rate'] = jnp.asarray(rate, jnp.float32)
    return skipping.skip_unless_finite(new_state, state, metrics)
  return new_state, metrics

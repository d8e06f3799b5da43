"""One step taken apart: what its numbers are like, from images to new state."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.run import Run
from coatnet_jax.training import freezing
from coatnet_jax.training.finite import (
  describe_names,
  find_not_finite,
  sort_by_layer,
)
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.tree_names import flatten


class StepFunctions(NamedTuple):
  """What a step is made of: functions of `train_step.py`.

  Attributes:
    prepare_inputs: function of state, batch and run, to images, targets, key.
    compute_gradients: function of state, batch and run, to gradients, batch
      statistics, and measures, among them 'loss'.
    take_step: compiled step, from state and batch to state and metrics; the
      state is donated.
  """

  prepare_inputs: Callable[..., Any]
  compute_gradients: Callable[..., Any]
  take_step: Callable[..., Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
  """What the numbers of an array, or of a module's outputs, are like.

  Attributes:
    name: name of the module, parameter or statistic.
    not_finite: how many are not finite.
    largest: largest finite one, its sign aside.
    norm: root of the sum of the squares; not finite where one of them is not.
  """

  name: str
  not_finite: int
  largest: float
  norm: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
  """A step that was taken apart.

  Attributes:
    step: number of the step.
    checkpoint: step of the checkpoint that the way to it began at; 0 where the
      run was begun anew.
    has_kept_batch: whether its batch is the one that was kept.
    before: arrays of the state before it that are not finite.
    forward: outputs of the modules, in the order in which they are computed;
      first the images, last the logits.
    statistics: new batch statistics, from the image to the head.
    loss: mean loss over the batch.
    gradients: gradients, from the head to the image, as they are computed.
    after: arrays of the state after it that are not finite.
    metrics: what the step said of itself.
  """

  step: int
  checkpoint: int
  has_kept_batch: bool
  before: tuple[str, ...]
  forward: tuple[Numbers, ...]
  statistics: tuple[Numbers, ...]
  loss: float
  gradients: tuple[Numbers, ...]
  after: tuple[str, ...]
  metrics: dict[str, float]

  def find_origin(self) -> str:
    """Returns where the step stops being finite, to follow 'It begins'; or ''.

    Of what is computed, the first.
    """
    forward, statistic, gradient = (
      next((n.name for n in numbers if n.not_finite), '')
      for numbers in (self.forward, self.statistics, self.gradients)
    )
    if self.before:
      return f'before the step: {describe_names(self.before)}'
    if forward:
      return f'in the forward pass, in what {forward} puts out'
    if statistic:
      return f'in the forward pass, in the statistics {statistic}'
    if not math.isfinite(self.loss):
      return 'in the loss; the logits are finite'
    if gradient:
      return f'in the backward pass, in the gradient of {gradient}'
    if not math.isfinite(self.metrics['gradient_norm']):
      largest = max(self.gradients, key=lambda numbers: numbers.norm)
      return (
        'in the norm of the gradients, each of which is finite; the largest is'
        f' that of {largest.name}'
      )
    if self.after:
      return f'in the update: {describe_names(self.after)}'
    if not all(map(math.isfinite, self.metrics.values())):
      # Where the step was skipped, they are not there to be looked at.
      is_skipped = self.metrics.get('skipped', 0)
      return 'in the norm of the new parameters' + (
        '' if is_skipped else ', each of which is finite'
      )
    return ''


def examine_step(
  run: Run,
  state: TrainState,
  batch: Mapping[str, jax.Array],
  functions: StepFunctions,
) -> Examination:
  """Takes one step apart.

  Args:
    run: resolved run, from `create_run`.
    state: state before the step, on the mesh; donated.
    batch: global batch of the step, on the mesh.
    functions: functions of `train_step.py` that the step is made of.
  """
  step, before = int(state.step) + 1, find_not_finite(state)
  names: list[str] = []

  def forward(state, batch):
    inputs = functions.prepare_inputs(state, batch, run=run)
    return _run_forward(run, state, inputs, names)

  def backward(state, batch):
    *trees, measures = functions.compute_gradients(state, batch, run=run)
    return *(jax.tree.map(_measure, tree) for tree in trees), measures['loss']

  replicated = mesh_lib.create_replicated_sharding(run.mesh)
  measured, (grads, batch_stats, loss) = jax.device_get(
    [
      mesh_lib.jit(function, run.mesh, out_shardings=replicated)(state, batch)
      for function in (forward, backward)
    ]
  )
  state, metrics = functions.take_step(state, batch)
  return Examination(
    step=step,
    checkpoint=step - 1,
    has_kept_batch=False,
    before=tuple(before),
    forward=tuple(map(_to_numbers, names, measured)),
    statistics=_list_numbers(batch_stats),
    loss=float(loss),
    gradients=_list_numbers(grads)[::-1],
    after=tuple(find_not_finite(state)),
    metrics={name: float(n) for name, n in jax.device_get(metrics).items()},
  )


def _run_forward(
  run: Run, state: TrainState, inputs: tuple[jax.Array, ...], names: list[str]
) -> jax.Array:
  """Returns what the outputs of all modules are like, [modules, 3].

  Nothing is scanned or rematerialised, so that each module has its name; that
  rounds a little otherwise.

  Args:
    run: resolved run, from `create_run`.
    state: state before the step.
    inputs: images [B, H, W, 3], targets [B, K] and key of the step.
    names: list that the names are put into, while it is traced.
  """
  images, _, key = inputs
  model = freezing.freeze_modules(run.model, state.params, run.frozen)
  if hasattr(model, 'compute'):
    compute = dataclasses.replace(
      model.compute, scan_blocks=False, remat='none'
    )
    model = model.clone(compute=compute)
  count = run.training.gradient_accumulation_steps
  parts = images.reshape(-1, count, *images.shape[1:]).swapaxes(0, 1)

  def measure_part(inputs):
    part, index = inputs
    names[:], measured = ['the images'], [_measure(part)]

    def record(call, args, kwargs, context):
      result = call(*args, **kwargs)
      if context.method_name == '__call__':
        names.append('/'.join(context.module.path) or 'the model')
        arrays = map(_measure, jax.tree.leaves(result))
        measured.append(_merge(jnp.stack(list(arrays))))
      return result

    with nn.intercept_methods(record):
      model.apply(
        state.variables,
        part,
        train=True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.fold_in(key, index)},
      )
    return jnp.stack(measured)

  # [parts, modules, 3]
  measured = jax.lax.map(measure_part, (parts, jnp.arange(count)))
  return jax.vmap(_merge, in_axes=1)(measured)


def _measure(array: jax.Array) -> jax.Array:
  """Returns how many are not finite, the largest, and the squares' sum, [3]."""
  array = array.astype(jnp.float32)
  is_finite = jnp.isfinite(array)
  largest = jnp.abs(jnp.where(is_finite, array, 0)).max(initial=0)
  # Of what is at most 1, so that no square is too large.
  squares = jnp.square(array / jnp.maximum(largest, 1e-30)).sum()
  return jnp.stack([(~is_finite).sum(dtype=jnp.float32), largest, squares])


def _merge(measured: jax.Array) -> jax.Array:
  """Returns of several arrays, [N, 3], what `_measure` would say of all."""
  counts, largest, squares = measured.T
  scale = largest.max()
  squares *= jnp.square(largest / jnp.maximum(scale, 1e-30))
  return jnp.stack([counts.sum(), scale, squares.sum()])


def _to_numbers(name: str, measured: np.ndarray) -> Numbers:
  count, largest, squares = measured.tolist()
  norm = largest * math.sqrt(squares) if math.isfinite(squares) else math.nan
  return Numbers(name=name, not_finite=int(count), largest=largest, norm=norm)


def _list_numbers(tree: Any) -> tuple[Numbers, ...]:
  """Returns what a tree of measured arrays is like, from image to head."""
  measured = flatten(tree)
  return tuple(
    _to_numbers(name, measured[name]) for name in sort_by_layer([*measured])
  )

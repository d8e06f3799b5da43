"""Taking a step of a run again, to see where its numbers stop being finite.

A step's batch is a function of its number, and resuming is exact: so the newest
checkpoint before a step, and the steps from there on, give the very state that
the step began with. A run that diverges keeps the batch besides, for the case
that the data change until somebody looks: `tools/replay.py`.
"""

import contextlib
import dataclasses
import io
import math
import shlex
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.folder import find_steps
from coatnet_jax.data import batching
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed import processes
from coatnet_jax.run import Run
from coatnet_jax.training import freezing
from coatnet_jax.training.finite import (
  describe_names,
  find_not_finite,
  sort_by_layer,
)
from coatnet_jax.training.reporting import DivergenceError
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.tree_names import flatten

DIRECTORY = 'diverged'
# How long a run that has diverged looks for where it began, by the time that
# the steps took; whoever has more time calls tools.replay.
MAX_SECONDS = 60.0

Batch = Mapping[str, np.ndarray]


class StepFunctions(NamedTuple):
  """What a step is made of: functions of `train.py`.

  Attributes:
    prepare_inputs: function of state, batch and run, to images, targets, key.
    compute_gradients: function of state, batch and run, to gradients, batch
      statistics, loss.
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
    loss: mean loss.
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


def explain_divergence(
  error: DivergenceError,
  run: Run,
  workdir: str,
  functions: StepFunctions,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
  *,
  seconds_per_step: float,
  report: Callable[[str], None],
) -> DivergenceError:
  """Keeps the batch of the step that diverged, and looks where it began.

  To be called by all processes, once nothing is being saved.

  Args:
    error: error of the loop.
    run: resolved run.
    workdir: directory of the run.
    functions: functions of `train.py`.
    create_state: function that makes the state of a run that begins.
    abstract_state: shapes of the state, with shardings.
    seconds_per_step: time that a step of the run took.
    report: function called with a line about what goes on.

  Returns:
    The error with what was found, and the command that finds more.
  """
  # The loop's own variables hold the state that is worth nothing, and there is
  # no room for two.
  traceback.clear_frames(error.__traceback__)
  found = ''
  try:
    keep_batch(run, workdir, error.step)
    first = find_checkpoint_before(workdir, error.step)
    if (error.step - first) * seconds_per_step <= MAX_SECONDS:
      report(
        f'Step {error.step:,} is not finite; it is taken again, to see where'
        ' that begins ...'
      )
      examination = replay_step(
        run, workdir, error.step, functions, create_state, abstract_state
      )
      if origin := examination.find_origin():
        at = f'At step {examination.step} it' * (examination.step != error.step)
        found = f'{at or "It"} begins {origin}. '
  except Exception:  # It would hide what it is about.
    logging.exception('The step cannot be taken again')
  command = (
    f'python -m tools.replay --workdir={shlex.quote(workdir)}'
    f' --step={error.step}'
  )
  return DivergenceError(
    error.problem,
    error.step,
    f'{found}To take the step apart: {command}.',
  )


def find_checkpoint_before(workdir: str, step: int) -> int:
  """Returns the step of the newest checkpoint before a step, or 0.

  Args:
    workdir: directory of the run.
    step: number of a step, from 1.
  """
  steps = find_steps(saving.checkpoint_directory(workdir))
  return max((saved for saved in steps if saved < step), default=0)


def replay_step(
  run: Run,
  workdir: str,
  step: int,
  functions: StepFunctions,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
) -> Examination:
  """Takes a run's steps again up to one, and that one apart.

  Where an earlier step turns out not to be finite, it is that one instead. To
  be called by all processes.

  Args:
    run: resolved run.
    workdir: directory of the run, which is left as it is.
    step: number of the step, from 1.
    functions: functions of `train.py`.
    create_state: function that makes the state of a run that begins.
    abstract_state: shapes of the state, with shardings.
  """
  batch = read_kept_batch(run, workdir, step)
  state, first = _restore_before(workdir, step, create_state, abstract_state)
  with contextlib.closing(_read_batches(run, first + 1)) as batches:
    for number in range(first + 1, step):
      processes.begin(f'taking step {number} again')
      state, metrics = functions.take_step(
        state, _put_batch(run, next(batches))
      )
      was_skipped = float(metrics.get('skipped', 0))
      if not was_skipped and find_not_finite([metrics, state.batch_stats]):
        return replay_step(
          run, workdir, number, functions, create_state, abstract_state
        )
    processes.begin(f'taking step {step} apart')
    on_mesh = _put_batch(run, next(batches) if batch is None else batch)
  return dataclasses.replace(
    examine_step(run, state, on_mesh, functions),
    checkpoint=first,
    has_kept_batch=batch is not None,
  )


def _restore_before(
  workdir: str,
  step: int,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
) -> tuple[TrainState, int]:
  """Returns a state from before a step, and how many steps it has taken."""
  directory = saving.checkpoint_directory(workdir)
  for saved in sorted(find_steps(directory), reverse=True):
    if saved < step:
      state, _ = saving.restore_step(
        directory / str(saved), saved, abstract_state
      )
      if state is not None:
        return state, saved
  return create_state(), 0


def examine_step(
  run: Run,
  state: TrainState,
  batch: Mapping[str, jax.Array],
  functions: StepFunctions,
) -> Examination:
  """Takes one step apart.

  Args:
    run: resolved run.
    state: state before the step, on the mesh; donated.
    batch: global batch of the step, on the mesh.
    functions: functions of `train.py`.
  """
  step, before = int(state.step) + 1, find_not_finite(state)
  names: list[str] = []

  def forward(state, batch):
    inputs = functions.prepare_inputs(state, batch, run=run)
    return _run_forward(run, state, inputs, names)

  def backward(state, batch):
    *trees, loss = functions.compute_gradients(state, batch, run=run)
    return *(jax.tree.map(_measure, tree) for tree in trees), loss

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
    run: resolved run.
    state: state before the step.
    inputs: images, targets and key of the step.
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


def _read_batches(run: Run, step: int, **shards: Any) -> Iterator[Batch]:
  """Reads the run's batches from a step on; this process's rows by default."""
  own = {
    'shards': mesh_lib.find_process_shards(run.mesh),
    'num_shards': mesh_lib.count_batch_shards(run.mesh),
  }
  return batching.create_train_batches(
    run.train_source,
    data=run.data,
    preprocessing=run.preprocessing,
    augmentation=run.augmentation,
    global_batch_size=run.training.global_batch_size,
    seed=run.seed,
    start_step=step - 1,
    **(shards or own),
  )


def _put_batch(run: Run, batch: Batch) -> dict[str, jax.Array]:
  return mesh_lib.put_batch(batch, run.mesh, ('image', 'label'))


def keep_batch(run: Run, workdir: str, step: int) -> None:
  """Writes a step's whole batch into workdir/diverged, on the first process.

  It is made anew, so that a run need not keep its batches until it knows that
  they were fine. To be called by all processes.

  Args:
    run: resolved run.
    workdir: directory of the run.
    step: number of the step, from 1.
  """
  processes.begin(f'keeping the batch of step {step}')
  if jax.process_index() == 0:
    one = dataclasses.replace(run.data, num_workers=0, prefetch_batches=1)
    alone = dataclasses.replace(run, data=one)
    with contextlib.closing(
      _read_batches(alone, step, shards=(0,), num_shards=1)
    ) as batches:
      batch = next(batches)
    content = io.BytesIO()
    np.savez(content, image=batch['image'], label=batch['label'])
    path = _batch_path(workdir, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_bytes(content.getvalue())
    partial.replace(path)
  multihost_utils.sync_global_devices(f'the batch of step {step} is kept')


def read_kept_batch(run: Run, workdir: str, step: int) -> Batch | None:
  """Returns this process's rows of a batch that was kept, or None.

  Args:
    run: resolved run.
    workdir: directory of the run.
    step: number of the step, from 1.
  """
  path = _batch_path(workdir, step)
  if not path.exists():
    return None
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
      batch = {name: file[name] for name in ('image', 'label')}
  except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
    logging.warning('%s is damaged: %s', path, error)
    return None
  shape = run.abstract_batch['image'].shape
  if batch['image'].shape != shape:
    logging.warning('%s is of another run', path)
    return None
  count = mesh_lib.count_batch_shards(run.mesh)
  shards = list(mesh_lib.find_process_shards(run.mesh))
  return {
    name: np.concatenate([np.split(rows, count)[n] for n in shards])
    if len(shards) < count
    else rows
    for name, rows in batch.items()
  }


def _batch_path(workdir: str, step: int) -> epath.Path:
  return epath.Path(workdir) / DIRECTORY / f'step_{step}.npz'

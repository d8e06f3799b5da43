"""How the state of a new run starts, on its mesh: anew, or from `init_from`.

Resuming a run is done in `checkpoints/resuming.py`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.folder import find_steps
from coatnet_jax.checkpoints.metadata import Metadata, restore_metadata
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed.first_process import ask_first_process
from coatnet_jax.distributed.state_sharding import add_shardings
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import Start, open_start
from coatnet_jax.run import Run
from coatnet_jax.training import workdir as workdir_lib
from coatnet_jax.training.finite import describe_names, find_not_finite
from coatnet_jax.training.train_state import TrainState, create_train_state
from coatnet_jax.weights.adaptation import (
  adapt_variables,
  check_variables,
  complete_head,
  count_origins,
)
from coatnet_jax.weights.loading import count_classes

# Options of models and their variants that variables don't depend on: how they
# start, how they are trained and computed with, and what the shapes have told
# already.
_FREE_OPTIONS = frozenset(
  {
    'compute',
    'batch_norm_momentum',
    'dropout_rate',
    'dtype',
    'frozen',
    'head_bias_init',
    'image_size',
    'kernel_init',
    'layer_scale',
    'name',
    'num_classes',
    'parent',
    'relative_position_mlp_dropout',
    'stochastic_depth_rate',
  }
)


def abstract_train_state(
  run: Run,
) -> tuple[Callable[[], TrainState], TrainState]:
  """Returns a function that initialises the state, and what it will create.

  Args:
    run: resolved run, from `create_run`.

  Returns:
    A function without arguments that makes the state on the mesh, no array of
    it ever whole on one device; and its tree of `jax.ShapeDtypeStruct` with
    shardings.

  Raises:
    UserError: the image size does not fit the model.
  """
  create = _state_creator(run)
  key = jax.random.key(run.seed)
  abstract_state = add_shardings(jax.eval_shape(create, key), run.mesh)
  jitted = _jit_creator(create, run.mesh, abstract_state)
  return functools.partial(jitted, key), abstract_state


def prepare_train_state(
  run: Run, workdir: str
) -> tuple[Callable[[], TrainState], TrainState, list[str]]:
  """Checks how a run's state will start; nothing is written.

  Args:
    run: resolved run; its `init_from` is used where the workdir has no
      checkpoint of its own.
    workdir: directory of the run.

  Returns:
    As `abstract_train_state`; and what is taken from where, a line each, none
    where everything is initialised.

  Raises:
    UserError: the image size does not fit the model; `init_from` is no
      checkpoint and no file of weights, one of another model (the first
      differences are listed), or one with numbers that are not finite;
      the workdir has checkpoints that no run has claimed.
  """
  # All do the same, also where they wrongly have workdirs of their own.
  has_checkpoint = bool(
    ask_first_process(lambda: 'yes' * saving.has_checkpoint(workdir))
  )
  if has_checkpoint and not workdir_lib.is_claimed(workdir):
    raise UserError(
      f'{workdir} has checkpoints, but no {workdir_lib.CONFIG_FILE} of a run to'
      ' resume: use another --workdir, and --config.init_from to start from'
      f' these weights. {workdir_lib.describe_repair(workdir)}'
    )
  if has_checkpoint:
    return *abstract_train_state(run), []
  return prepare_first_state(run)


def prepare_first_state(
  run: Run,
) -> tuple[Callable[[], TrainState], TrainState, list[str]]:
  """Does what `prepare_train_state` does where there is no checkpoint yet.

  Args:
    run: resolved run, perhaps with `init_from`.
  """
  create_state, abstract_state = abstract_train_state(run)
  if not run.init_from:
    return create_state, abstract_state, []
  start = open_start(run.init_from, run.model_name)
  target = abstract_state.variables
  shapes = complete_head(start.shapes, target)
  changes = check_variables(shapes, target, new_head=True, source=start.source)
  if count_classes(start.shapes) is None:
    changes.append('head_logits: none there, newly initialised')
  check_same_architecture(start.model, run.model, start.source)
  # Read for this alone: whoever kept them would hold them for the whole run.
  if not start.is_finite and (names := find_not_finite(start.read(run.mesh))):
    source = start.source[0].upper() + start.source[1:]
    raise UserError(
      f'{source} cannot be started from:'
      f' {describe_names(names)}; start from another one.'
    )
  create_state = functools.partial(_create_from, run, start, abstract_state)
  return (
    create_state,
    abstract_state,
    [*_describe_start(run, start, target, changes), *run.taken_over],
  )


def _describe_start(
  run: Run, start: Start, target: Any, changes: list[str]
) -> list[str]:
  """Returns what a run starts from, and what of it differs, in lines."""
  lines = [
    *start.lines,
    f'{"":11} {"arrays":>6} {"numbers":>13}',
    *(
      f'{origin:11} {arrays:6,} {numbers:13,}'
      for origin, (arrays, numbers) in count_origins(
        start.shapes, target
      ).items()
    ),
    *changes,
  ]
  before, now = start.class_names, run.train_source.class_names
  if len(before) == len(now) and before != now:
    lines.append(
      f'head_logits: kept, though the {len(now):,} classes have other names'
      + ', or another order' * (set(before) == set(now))
    )
  for name in ('mean', 'std'):
    ours = getattr(run.preprocessing, name)
    theirs = start.preprocessing.get(name, ours)  # A file may not say it.
    if theirs != ours:
      lines.append(
        f'preprocessing.{name}: {ours} here, it was trained with {theirs}'
      )
  return lines


def check_same_architecture(
  saved: nn.Module, model: nn.Module, source: str
) -> None:
  """Checks what shapes don't tell: activations, say, or where the stride is.

  Args:
    saved: model whose variables there are.
    model: model they are for, with variables of the same shapes.
    source: name of the variables in an error.

  Raises:
    UserError: an option differs that the variables' meaning depends on; every
      difference is listed.
  """
  before, now = _flatten_options(saved), _flatten_options(model)
  missing = '(not there)'
  differences = [
    f'  {name}: {before.get(name, missing)} saved,'
    f' {now.get(name, missing)} in the model'
    for name in sorted(before.keys() | now.keys())
    if before.get(name, missing) != now.get(name, missing)
  ]
  if differences:
    raise UserError(
      f'The model is built otherwise than that of {source}; set config.model to'
      ' what it was. The difference:\n' + '\n'.join(differences)
    )


def _flatten_options(options: Any, prefix: str = '') -> dict[str, Any]:
  """Returns the fields of nested dataclasses by their dotted names."""
  if not dataclasses.is_dataclass(options):
    return {prefix: options}
  flat = {'type' if not prefix else f'{prefix}.type': type(options).__name__}
  for field in dataclasses.fields(options):
    if field.name not in _FREE_OPTIONS:
      name = f'{prefix}.{field.name}' if prefix else field.name
      flat.update(_flatten_options(getattr(options, field.name), name))
  return flat


def check_same_data(run: Run, workdir: str) -> str:
  """Compares a run's data with those that its newest checkpoint was made with.

  To be called by all processes.

  Args:
    run: resolved run.
    workdir: directory of the run.

  Returns:
    What differs, where `config.data.changed` is 'accept'; '' where nothing
    does, or there is no checkpoint.

  Raises:
    UserError: the data differ, and `config.data.changed` is 'refuse'; or there
      is another number of classes.
  """
  now = run.metadata  # By all processes, whatever each of them can read.
  directory = saving.checkpoint_directory(workdir)
  for step in reversed(find_steps(directory)):
    try:
      saved = restore_metadata(directory / str(step))
    except UserError:
      continue  # Its arrays may be whole; an older one says it as well.
    difference = _describe_other_data(saved, now)
    if not difference:
      return ''
    is_fatal = len(saved.class_names) != len(run.train_source.class_names)
    if run.data.changed == 'accept' and not is_fatal:
      return difference
    accept = '; or, if the change is meant, --config.data.changed=accept'
    raise UserError(
      f'{workdir} holds a run on other data: {difference}. Resume it on the'
      ' data it was begun with, or use another --workdir'
      f'{"" if is_fatal else accept}.'
    )
  return ''


def _describe_other_data(before: Metadata, now: Metadata) -> str:
  """Returns how the data of a checkpoint and of a run differ; '' if not."""
  names = before.class_names, now.class_names
  if len(names[0]) != len(names[1]):
    return f'{len(names[0]):,} classes before, {len(names[1]):,} now'
  for label, (one, other) in enumerate(zip(*names)):
    if one != other:
      return f'class {label} was {one!r} before, and is {other!r} now'
  for split, then in before.data.items():
    images = {'train': 'training', 'eval': 'evaluation'}[split] + ' images'
    if then['examples'] != now.data[split]['examples']:
      return (
        f'{then["examples"]:,} {images} before,'
        f' {now.data[split]["examples"]:,} now'
      )
    if then['fingerprint'] != now.data[split]['fingerprint']:
      return f'the files of the {images} have other names, sizes or checksums'
  return ''


def _create_from(
  run: Run, start: Start, abstract_state: TrainState
) -> TrainState:
  """Returns a new run's state with the variables that it starts from."""
  create = _jit_creator(_state_creator(run), run.mesh, abstract_state)
  return create(jax.random.key(run.seed), start.read(run.mesh))


def _jit_creator(
  create: Callable[..., TrainState], mesh: Mesh, abstract_state: TrainState
) -> Callable[..., TrainState]:
  """Returns a function jitted that makes a state where it is to lie."""
  return mesh_lib.jit(
    create,
    mesh,
    out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract_state),
  )


def _state_creator(run: Run) -> Callable[..., TrainState]:
  """Returns a function of the run's key and, perhaps, trained variables."""

  def create(key, trained=None):
    state = create_train_state(
      key,
      model=run.model,
      tx=run.tx,
      image_size=run.preprocessing.image_size,
      use_ema=run.training.ema_decay > 0,
    )
    if trained is None:
      return state
    # Only a new head is used of what was initialised; the compiler leaves the
    # rest out.
    variables, _ = adapt_variables(
      complete_head(trained, state.variables),
      state.variables,
      new_head=state.params['head_logits'],
    )
    return state.replace(
      **variables,
      opt_state=run.tx.init(variables['params']),
      ema=None if state.ema is None else variables,
    )

  return create

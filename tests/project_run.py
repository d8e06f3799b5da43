"""A run of the project on the case that `tests/reference` computes anew."""

import json
import pathlib

import cv2
import jax
import numpy as np
import optax
import pytest

import train
from coatnet_jax.distributed.mesh import create_replicated_sharding
from coatnet_jax.initial_state import abstract_train_state, prepare_train_state
from coatnet_jax.models import variants
from coatnet_jax.run import create_run
from coatnet_jax.tree_names import map_names
from configs import base
from tests.reference import case
from tests.train_batches import read_train_batches


def create_variant() -> variants.Variant:
  """Returns the network of `case.STAGES`."""
  return variants.Variant(
    stem=variants.StemOptions(widths=case.STEM_WIDTHS),
    stages=tuple(
      variants.Stage((variants.BlockGroup(kind, number, width),), stride)
      for kind, number, width, stride in case.STAGES
    ),
    transformer=variants.TransformerOptions(head_dim=case.HEAD_DIM),
  )


def write_pictures(folder: pathlib.Path) -> None:
  """Writes the case's pictures as a data set that is a folder."""
  for split in ('train', 'eval'):
    for index, (picture, label) in enumerate(case.create_pictures(split)):
      path = folder / split / f'class_{label}' / f'{index:02}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      # OpenCV's order of colours.
      assert cv2.imwrite(str(path), picture[..., ::-1])


def create_config(folder: pathlib.Path, changed: dict):
  """Returns the run's config: the case's, on the pictures of a folder."""
  config = base.get_config()
  values = {key: value for key, value in changed.items() if key != 'mistake'}
  config.update_from_flattened_dict(values)
  config.update_from_flattened_dict(
    {
      'model.name': 'reference',
      'data.source': 'folder',
      'data.data_dir': str(folder),
      'data.eval_split': 'eval',
      'evaluation.every_epochs': 0.0,
      'logging.image_grid_size': 0,
      'logging.report': False,
    }
  )
  return config


def start_state(state):
  """Returns a new run's state with the case's parameters and statistics."""
  variables = {
    collection: map_leaves(case.create_array, getattr(state, collection))
    for collection in ('params', 'batch_stats')
  }
  ema = None if state.ema is None else variables
  # Copies: buffers are donated, and no two may be one.
  return jax.tree.map(jax.numpy.array, state.replace(**variables, ema=ema))


def map_leaves(function, tree):
  """Returns a tree with `function(name, shape)` in the place of each leaf."""
  return map_names(lambda name, leaf: function(name, leaf.shape), tree)


def run_project(
  folder: pathlib.Path,
  workdir: pathlib.Path,
  changed: dict,
  monkeypatch: pytest.MonkeyPatch,
) -> dict[str, np.ndarray]:
  """Trains and evaluates as the command line does, on the case.

  Args:
    folder: folder that `write_pictures` wrote.
    workdir: workdir of the run.
    changed: config of the case, perhaps with changes.
    monkeypatch: pytest's fixture, to give the state its start and to see what
      goes by.

  Returns:
    What `tests.reference.training.run` returns.
  """
  rows = []

  def prepare(run, workdir):
    create_state, abstract_state, origin = prepare_train_state(run, workdir)
    return lambda: start_state(create_state()), abstract_state, origin

  def compile_and_record(*args):
    take_step = compile_train_step(*args)

    def recorded(state, batch):
      state, metrics = take_step(state, batch)
      with jax.transfer_guard('allow'):
        rows.append(jax.device_get({**batch, **metrics}))
      return state, metrics

    return recorded

  compile_train_step = train.compile_train_step
  with monkeypatch.context() as patch:
    patch.setattr(train, 'prepare_train_state', prepare)
    patch.setattr(train, 'compile_train_step', compile_and_record)
    state = train.train_and_evaluate(
      create_config(folder, changed), str(workdir)
    )
  summary = json.loads((workdir / 'summary.json').read_text())
  return list_numbers(rows, state, summary['final'])


class Start:
  """How a run starts, to run it by its parts without initialising again."""

  def __init__(self, folder: pathlib.Path):
    """Initialises, once."""
    run = create_run(create_config(folder, case.change('')))
    create_state, _ = abstract_train_state(run)
    self._folder = folder
    self._state = start_state(create_state())

  def run_parts(self, changed: dict, program=None):
    """Takes the steps of a changed run and evaluates it.

    Args:
      changed: config of the case with changes.
      program: compiled train step, where the changes are of pictures alone.

    Returns:
      The run's numbers, and the compiled train step.
    """
    run = create_run(create_config(self._folder, changed))
    state = jax.tree.map(jax.numpy.array, self._state)
    if not run.training.ema_decay:
      state = state.replace(ema=None)
    if program is None:
      abstract_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
          x.shape, x.dtype, sharding=create_replicated_sharding(run.mesh)
        ),
        state,
      )
      program = train.compile_train_step(run, abstract_state)
    state = jax.device_put(state, create_replicated_sharding(run.mesh))
    rows = []
    for batch in read_train_batches(run, run.training.num_steps):
      state, metrics = program(state, jax.device_put(batch))
      rows.append({**batch, **jax.device_get(metrics)})
    evaluated = train.evaluate_run(run, state)
    return list_numbers(rows, state, evaluated), program


def list_numbers(rows, state, evaluated) -> dict[str, np.ndarray]:
  """Returns a run's numbers by the names that the reference gives them.

  Args:
    rows: 'image', 'label' and the metrics of each step.
    state: state after the last step.
    evaluated: 'loss', 'top1', 'top5' and 'count' of the evaluation.
  """
  names = {'image': 'images', 'label': 'labels'}
  numbers = {
    f'steps/{names.get(name, name)}': np.array([row[name] for row in rows])
    for name in ('image', 'label', 'learning_rate', 'loss', 'gradient_norm')
  }
  collections = {
    'params': state.params,
    'batch_stats': state.batch_stats,
    'mu': optax.tree.get(state.opt_state, 'mu'),
    'nu': optax.tree.get(state.opt_state, 'nu'),
  }
  if state.ema is not None:
    collections['ema'] = state.ema
  for prefix, tree in collections.items():
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      numbers[f'{prefix}/{name}'] = np.asarray(leaf)
  for name in ('loss', 'top1', 'top5', 'count'):
    numbers[f'evaluation/{name}'] = np.array(evaluated[name])
  return numbers

import functools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from coatnet_jax.checkpoints import checksums, saving
from coatnet_jax.checkpoints.metadata import Metadata, Progress
from coatnet_jax.checkpoints.trained_model import (
  find_checkpoint,
  load_trained_model,
  open_saved_model,
  read_metadata,
)
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.distributed.mesh import create_mesh
from coatnet_jax.errors import UserError
from coatnet_jax.models.factory import create_model
from coatnet_jax.training.losses import LossOptions
from coatnet_jax.training.train_state import create_train_state
from coatnet_jax.weights.adaptation import resize_relative_position_bias_table
from configs import quickstart

CLASS_NAMES = ('ant', 'bee', 'cat')
METRICS = {
  2: {'top1': 0.5, 'top5': 1.0, 'loss': 1.5},
  4: {'top1': 0.7, 'top5': 1.0, 'loss': 1.9},
  6: {'top1': 0.7, 'top5': 1.0, 'loss': 2.0},
  8: {'top1': 0.6, 'top5': 1.0, 'loss': 1.6},
}


@pytest.fixture(scope='module')
def state():
  model = create_model(
    'coatnet_mini', num_classes=len(CLASS_NAMES), stochastic_depth_rate=0.1
  )
  create = functools.partial(
    create_train_state,
    model=model,
    tx=optax.adamw(1e-3),
    image_size=(28, 28),
    use_ema=False,
  )
  return jax.jit(create)(jax.random.key(0))


def _metadata(**changes):
  config = quickstart.get_config()
  config.update(changes)
  return Metadata(
    model={**config.model, 'num_classes': len(CLASS_NAMES)},
    preprocessing=config.preprocessing.to_dict(),
    class_names=CLASS_NAMES,
    config=config.to_dict(),
  )


def _save(workdir, state, metrics_by_step, metadata=None):
  """Saves a state per step, with the metrics given for it."""
  options = saving.CheckpointOptions(
    every_steps=0, every_seconds=0, max_to_keep=9, best_metric='top1'
  )
  with saving.open_checkpoints(workdir, options, pytest.fail) as manager:
    for step, metrics in metrics_by_step.items():
      saving.save_checkpoint(
        manager,
        state.replace(step=jnp.int32(step)),
        step=step,
        progress=Progress(),
        metadata=metadata or _metadata(),
      )
      if metrics:
        saving.save_evaluation(manager, step, metrics)
  return workdir


@pytest.fixture(scope='module')
def workdir(state, tmp_path_factory):
  """Returns a workdir of four evaluated steps; not to be changed."""
  return _save(tmp_path_factory.mktemp('trained') / 'run', state, METRICS)


@pytest.fixture
def one_step(workdir, tmp_path):
  """Returns a copy of step 6, alone."""
  return shutil.copytree(workdir / 'checkpoints' / '6', tmp_path / 'copy')


def _edit_metadata(directory, edit):
  path = directory / 'metadata' / 'metadata'
  metadata = json.loads(path.read_text())
  edit(metadata)
  path.write_text(json.dumps(metadata))
  checksums.write_checksums(epath.Path(directory))


def test_everything_is_as_it_was_saved(workdir, state):
  trained = load_trained_model(workdir)
  jax.tree.map(
    np.testing.assert_array_equal, trained.variables, state.variables
  )
  assert trained.class_names == CLASS_NAMES
  assert trained.loss == LossOptions(kind='softmax', label_smoothing=0.05)
  config = quickstart.get_config()
  assert trained.preprocessing == PreprocessingOptions(**config.preprocessing)
  assert trained.config.to_dict() == config.to_dict()
  assert trained.changes == ()
  # Both are static arguments of jitted functions.
  assert hash(trained.model)
  assert hash(trained.preprocessing)


def test_the_model_gives_a_logit_per_class(workdir):
  trained = load_trained_model(workdir)
  logits = jax.jit(functools.partial(trained.model.apply, train=False))(
    trained.variables, jnp.ones((2, 28, 28, 3))
  )
  assert logits.shape == (2, 3)


def test_averages_are_read_where_there_are_any(state, tmp_path):
  averages = jax.tree.map(lambda x: x + 1, state.variables)
  _save(tmp_path, state.replace(ema=averages), {3: None})
  trained = load_trained_model(tmp_path)
  assert trained.step == 3
  jax.tree.map(np.testing.assert_array_equal, trained.variables, averages)


def test_variables_are_put_where_they_are_asked_for(workdir):
  mesh = create_mesh(replica=-1, data=1, fsdp=-1, tensor=1)
  trained = load_trained_model(workdir, mesh)
  assert trained.mesh is mesh
  for leaf in jax.tree.leaves(trained.variables):
    assert leaf.sharding.mesh == mesh


def test_a_workdir_means_its_best_and_latest_checkpoint(workdir):
  trained = load_trained_model(workdir)
  assert trained.step == 6
  assert trained.path == workdir / 'checkpoints' / '6'
  assert find_checkpoint(workdir / 'checkpoints') == trained.path


def test_the_config_says_which_is_best(state, tmp_path):
  config = quickstart.get_config()
  config.checkpoint.best_metric = 'loss'
  metadata = _metadata(checkpoint=config.checkpoint)
  _save(tmp_path, state, METRICS, metadata)
  assert find_checkpoint(tmp_path).name == '2'


def test_the_newest_is_taken_where_none_was_evaluated(state, tmp_path):
  _save(tmp_path, state, {9: None, 10: None})
  assert find_checkpoint(tmp_path).name == '10'


def test_an_evaluated_one_is_taken_before_a_newer_one(state, tmp_path):
  _save(tmp_path, state, {9: METRICS[2], 10: None})
  assert find_checkpoint(tmp_path).name == '9'


def test_the_directory_of_a_step_is_that_step(workdir):
  trained = load_trained_model(str(workdir / 'checkpoints' / '2'))
  assert trained.step == 2


def test_a_copy_of_a_step_may_have_any_name(one_step):
  trained = load_trained_model(one_step)
  assert trained.step == 6
  assert trained.path == one_step


def test_a_workdir_may_be_called_by_a_number(workdir, tmp_path):
  shutil.copytree(workdir, tmp_path / '2024')
  found = find_checkpoint(tmp_path / '2024')
  assert found == tmp_path / '2024' / 'checkpoints' / '6'


def test_a_relative_path_will_do(workdir, monkeypatch):
  monkeypatch.chdir(workdir.parent)
  assert load_trained_model(workdir.name).step == 6


@pytest.mark.parametrize('has_directory', [True, False])
def test_a_workdir_without_checkpoint_is_refused(has_directory, tmp_path):
  if has_directory:
    # As when a first checkpoint was not written to its end.
    unfinished = '4.orbax-checkpoint-tmp-123'
    (tmp_path / 'checkpoints' / unfinished / 'state').mkdir(parents=True)
  with pytest.raises(UserError, match=f'{tmp_path} has no checkpoint: give'):
    load_trained_model(tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path):
  with pytest.raises(UserError, match=r'typo does not exist: give the workdir'):
    load_trained_model(tmp_path / 'typo')


# What Orbax leaves behind when one of many arrays cannot be read.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('damage', ['missing', 'cut off', 'empty'])
@pytest.mark.parametrize(
  'pattern',
  [
    'metadata/metadata',
    'state/_METADATA',
    'state/manifest.ocdbt',
    'state/ocdbt.process_0/d/*',
  ],
)
def test_a_damaged_checkpoint_is_refused(one_step, pattern, damage):
  paths = list(one_step.glob(pattern))
  assert paths
  for path in paths:
    size = path.stat().st_size if damage == 'cut off' else 0
    os.truncate(path, size // 2)
    if damage == 'missing':
      path.unlink()
  with pytest.raises(UserError, match=f'{one_step} cannot be read: .+') as info:
    load_trained_model(one_step)
  assert len(str(info.value).splitlines()) == 1
  assert 'NoneType' not in str(info.value)


def test_a_whole_one_is_used_in_the_place_of_the_damaged_best(
  workdir, tmp_path
):
  copy = shutil.copytree(workdir, tmp_path / 'run')
  (copy / 'checkpoints' / '6' / 'state' / '_METADATA').unlink()
  trained = load_trained_model(copy)
  assert trained.step == 4  # The next best.
  (change,) = trained.changes
  assert '/6 cannot be read: state/_METADATA is missing.' in change
  assert change.endswith('Step 4 is used.')
  with pytest.raises(UserError, match=r'/6 cannot .* beside it: 2, 4, 8\.'):
    load_trained_model(copy / 'checkpoints' / '6')
  for step in (2, 4, 8):
    (copy / 'checkpoints' / str(step) / 'state' / 'manifest.ocdbt').unlink()
  with pytest.raises(
    UserError, match=r'/6 cannot be read: state/_METADATA'
  ) as info:
    load_trained_model(copy)
  command = f'python -m tools.checkpoints --workdir={copy} --repair.'
  assert str(info.value).endswith(command)


def test_all_processes_take_one_that_is_whole_for_all(workdir, monkeypatch):
  """Another process cannot read the best: neither uses it."""
  answers = iter([True, False, True, True])
  monkeypatch.setattr(
    checksums, 'is_good_everywhere', lambda is_good: is_good and next(answers)
  )
  saved = open_saved_model(workdir)
  assert saved.path.name == '4'
  assert 'as another process found' in saved.notes[0]


def test_what_a_damaged_best_would_say_another_says(workdir, tmp_path):
  copy = shutil.copytree(workdir, tmp_path / 'run')
  (copy / 'checkpoints' / '6' / 'metadata' / 'metadata').write_text('{')
  assert read_metadata(copy) == _metadata()
  with pytest.raises(UserError, match=r'/6 cannot be read: metadata/metadata'):
    read_metadata(copy / 'checkpoints' / '6')


def test_an_evaluation_that_cannot_be_read_is_said(workdir, tmp_path):
  copy = shutil.copytree(workdir, tmp_path / 'run')
  (copy / 'checkpoints' / '6' / 'metrics' / 'metrics').write_text('{"top1')
  trained = load_trained_model(copy)
  assert trained.step == 4
  (change,) = trained.changes
  assert change.startswith(
    'The evaluation of step 6 cannot be read: metrics/metrics has 6 bytes'
  )
  assert load_trained_model(copy / 'checkpoints' / '6').step == 6


def test_another_model_is_refused_with_every_difference(one_step):
  _edit_metadata(one_step, lambda m: m['model'].update(num_classes=7))
  with pytest.raises(UserError) as info:
    load_trained_model(one_step)
  message = str(info.value)
  assert f'The model does not fit the checkpoint {one_step}.' in message
  assert 'params/head_logits/bias: (3,) saved, (7,) in the model' in message
  assert 'params/head_logits/kernel: (64, 3) saved, (64, 7)' in message
  assert len(message.splitlines()) == 4


def test_tables_are_resized_for_another_image_size(workdir, state):
  trained = load_trained_model(workdir, image_size=(32, 48))
  assert trained.preprocessing.image_size == (32, 48)
  assert trained.changes == ('resized 2 relative position tables, 7x7 to 8x12',)
  params = dict(trained.variables['params'])
  for name in ('s3_block_0', 's4_block_0'):
    attention = dict(params[name]['attention'])
    table = attention['relative_position_bias_table']
    assert table.sharding.mesh == trained.mesh
    saved = state.params[name]['attention']['relative_position_bias_table']
    np.testing.assert_array_equal(
      table, resize_relative_position_bias_table(saved, (8, 12))
    )
    attention['relative_position_bias_table'] = saved
    params[name] = {**params[name], 'attention': attention}
  jax.tree.map(np.testing.assert_array_equal, params, state.params)


def test_an_image_size_that_does_not_fit_is_refused(workdir):
  with pytest.raises(UserError, match=r'divisible by 4'):
    load_trained_model(workdir, image_size=(30, 28))
  with pytest.raises(UserError, match=r'image_size is \(0, 28\)'):
    load_trained_model(workdir, image_size=(0, 28))


@pytest.mark.parametrize(
  ('key', 'change', 'message'),
  [
    ('model', {'name': 'coatnet_x'}, 'coatnet_x'),
    ('model', {'depth': 3}, 'depth'),
    ('preprocessing', {'sharpness': 3}, 'sharpness'),
    ('preprocessing', {'interpolation': 'sinc'}, 'sinc'),
  ],
)
def test_another_version_of_the_code_is_refused(one_step, key, change, message):
  _edit_metadata(one_step, lambda m: m[key].update(change))
  with pytest.raises(UserError, match=f'another version of .*{message}'):
    load_trained_model(one_step)

"""How a new run starts, and that a run that is resumed does not start anew."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
from etils import epath

import train
from coatnet_jax.checkpoints import checksums, saving
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import (
  abstract_train_state,
  check_same_architecture,
  check_same_data,
  prepare_train_state,
)
from coatnet_jax.models.factory import create_model
from coatnet_jax.run import create_run
from configs import quickstart
from tests.quick_configs import create_synthetic_config

pytestmark = pytest.mark.usefixtures('tiny_variant')


def _config(num_steps, image_size, classes, init_from=''):
  """A run on synthetic pictures, whose classes have numbers for names."""
  return create_synthetic_config(
    image_size,
    classes,
    {
      'init_from': str(init_from),
      'training.num_steps': num_steps,
      'training.global_batch_size': 16,
      'training.ema_decay': 0.9,
    },
  )


@pytest.fixture(scope='module')
def pretrained(tiny_variant, tmp_path_factory):
  """A workdir with a checkpoint at 28 px of 10 classes, and averages."""
  workdir = tmp_path_factory.mktemp('pretrained') / 'run'
  config = _config(2, (28, 28), 10)
  run = create_run(config)
  create_state, _ = abstract_train_state(run)
  state = create_state()
  averages = jax.tree.map(lambda x: x + 1, state.variables)
  with saving.open_checkpoints(workdir, run.checkpoint, pytest.fail) as manager:
    saving.save_checkpoint(
      manager,
      state.replace(step=state.step + 2, ema=averages),
      step=2,
      progress=Progress(),
      metadata=run.metadata,
    )
  return workdir


def test_finetuning_at_another_size_on_other_classes(
  pretrained, tmp_path, capsys
):
  config = _config(2, (32, 24), 7, pretrained)
  workdir = tmp_path / 'run'

  create_state, abstract_state, _ = prepare_train_state(
    create_run(config), str(workdir)
  )
  state = create_state()
  trained = load_trained_model(pretrained, image_size=(32, 24))
  expected = jax.tree.map(np.asarray, trained.variables)
  head = state.params['head_logits']
  assert head['kernel'].shape == (32, 7)
  assert np.std(head['kernel']) > 0.05
  expected['params']['head_logits'] = head
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
    state.variables,
    expected,
  )
  jax.tree.map(np.testing.assert_array_equal, state.ema, state.variables)
  assert int(state.step) == 0
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
  assert moments
  assert not any(np.any(x) for x in moments)
  for leaf, abstract in zip(
    jax.tree.leaves(state), jax.tree.leaves(abstract_state), strict=True
  ):
    assert (leaf.shape, leaf.sharding) == (abstract.shape, abstract.sharding)

  capsys.readouterr()
  train.train_and_evaluate(config, str(workdir))
  printed = capsys.readouterr().out
  assert (
    f'init_from   {pretrained}/checkpoints/2\n'
    '            averaged parameters and batch statistics of tiny\n'
    '                        arrays       numbers\n'
    '            taken           46        17,020\n'
    '            resized          1           165\n'
    '            initialised      2           231\n'
    '            resized 1 relative position table, 7x7 to 8x6\n'
    '            head_logits: 10 classes replaced by 7, newly initialised\n'
  ) in printed
  finetuned = load_trained_model(workdir)
  assert finetuned.model.num_classes == 7
  assert finetuned.config.init_from == str(pretrained)

  # Started again, it resumes, and needs no more what it started from.
  elsewhere = pretrained.with_name('elsewhere')
  pretrained.rename(elsewhere)
  try:
    again = train.train_and_evaluate(config, str(workdir))
  finally:
    elsewhere.rename(pretrained)
  printed = capsys.readouterr().out
  assert 'Resuming from the checkpoint of step 2.' in printed
  assert 'init_from' not in printed
  jax.tree.map(np.testing.assert_array_equal, again.ema, finetuned.variables)


def _prepare(config, workdir):
  return prepare_train_state(create_run(config), str(workdir))


def test_the_head_is_kept_for_as_many_classes(pretrained, tmp_path):
  config = _config(2, (28, 28), 10, pretrained)
  create_state, _, lines = _prepare(config, tmp_path)
  assert lines == [
    f'{pretrained}/checkpoints/2',
    'averaged parameters and batch statistics of tiny',
    '            arrays       numbers',
    'taken           49        17,519',
    'resized          0             0',
    'initialised      0             0',
  ]
  jax.tree.map(
    np.testing.assert_array_equal,
    create_state().variables,
    load_trained_model(pretrained).variables,
  )
  # Ten classes, too, but of clothes.
  config.data = quickstart.get_config().data
  config.preprocessing.mean = (0.5, 0.5, 0.5)
  _, _, lines = _prepare(config, tmp_path)
  assert lines[6:] == [
    'head_logits: kept, though the 10 classes have other names',
    'preprocessing.mean: (0.5, 0.5, 0.5) here, it was trained with'
    ' (0.286, 0.286, 0.286)',
  ]


@pytest.fixture
def begun(pretrained, tmp_path):
  """A workdir to be changed, and the run that is resumed in it."""
  workdir = shutil.copytree(pretrained, tmp_path / 'begun')
  return workdir, create_run(_config(2, (28, 28), 10))


@pytest.mark.parametrize(
  ('class_names', 'message'),
  [
    # As '0', '1', '10', '2' were numbered.
    (
      ['0', '2', '1', '3', '4', '5', '6', '7', '8', '9'],
      "class 1 was '1' before, and is '2' now",
    ),
    (
      ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'],
      "class 0 was '0' before, and is 'a' now",
    ),
    ([*'0123456789', '10'], '10 classes before, 11 now'),
  ],
)
def test_a_run_is_resumed_with_its_own_classes_only(
  begun, class_names, message
):
  workdir, run = begun
  assert check_same_data(run, str(workdir)) == ''
  run.__dict__.pop('data_identity', None)
  run.train_source.class_names = tuple(class_names)
  with pytest.raises(UserError, match=message) as info:
    check_same_data(run, str(workdir))
  accepts = len(class_names) == 10
  assert ('--config.data.changed=accept' in str(info.value)) == accepts
  accepting = dataclasses.replace(
    run, data=dataclasses.replace(run.data, changed='accept')
  )
  if accepts:
    assert message in check_same_data(accepting, str(workdir))
  else:
    with pytest.raises(UserError, match='10 classes before'):
      check_same_data(accepting, str(workdir))


def test_a_checkpoint_of_an_older_version_says_less_of_its_data(begun):
  workdir, run = begun
  path = workdir / 'checkpoints' / '2' / 'metadata' / 'metadata'
  saved = json.loads(path.read_text())
  assert saved.pop('data') == run.data_identity
  path.write_text(json.dumps(saved))
  checksums.write_checksums(epath.Path(path.parents[1]))
  assert check_same_data(run, str(workdir)) == ''


@pytest.mark.parametrize('problem', ['missing', 'empty', 'file'])
def test_what_is_no_checkpoint_is_refused(tmp_path, problem):
  path = tmp_path / 'weights'
  if problem == 'empty':
    path.mkdir()
  if problem == 'file':
    path.write_text('weights')
  config = _config(2, (28, 28), 10, path)
  advice = 'is not a safetensors' if problem == 'file' else 'give the workdir'
  with pytest.raises(UserError, match=f'{path} .*{advice}') as info:
    train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert '\n' not in str(info.value)
  assert not (tmp_path / 'run').exists()


def test_another_architecture_is_refused_with_the_differences(
  pretrained, tmp_path
):
  config = _config(2, (32, 32), 7, pretrained)
  config.model.name = 'coatnet_mini'
  with pytest.raises(UserError) as info:
    train.train_and_evaluate(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  message, *differences = str(info.value).splitlines()
  assert 'does not fit the checkpoint' in message
  assert 'of init_from' in message
  assert len(differences) == 21
  assert differences[-1].startswith('  and ')


def test_what_shapes_do_not_tell_is_compared():
  def check(**changes):
    check_same_architecture(
      create_model('tiny', num_classes=10),
      create_model('tiny', **changes),
      'FILE',
    )

  check(num_classes=7, stochastic_depth_rate=0.3, dtype='bfloat16')
  check(head_bias_init=-10.0)
  check(image_size=(64, 64), kernel_init='normal_0.02', attention='reference')
  with pytest.raises(UserError) as info:
    check(transformer={'activation': 'relu', 'norm_epsilon': 0.5})
  assert str(info.value).splitlines() == [
    'The model is built otherwise than that of FILE; set config.model to what'
    ' it was. The difference:',
    '  variant.transformer.activation: gelu_tanh saved, relu in the model',
    '  variant.transformer.norm_epsilon: 1e-05 saved, 0.5 in the model',
  ]
  with pytest.raises(UserError, match='  type: CoAtNet saved, Dense in the'):
    check_same_architecture(create_model('tiny'), nn.Dense(3), 'FILE')


@pytest.mark.parametrize(
  ('section', 'option', 'value'),
  [
    ('transformer', 'activation', 'relu'),
    ('mbconv', 'norm_epsilon', 0.5),
    ('head', 'norm_epsilon', 0.5),
  ],
)
def test_init_from_a_model_of_the_same_shapes_only(
  pretrained, tmp_path, section, option, value
):
  config = _config(2, (28, 28), 10, pretrained)
  with config.unlocked():
    config.model[section] = {option: value}
  with pytest.raises(UserError, match=rf'{section}\.{option}: .* {value} in'):
    prepare_train_state(create_run(config), str(tmp_path / 'run'))


def test_weights_that_are_not_finite_are_named(pretrained, tmp_path):
  run = create_run(_config(2, (28, 28), 10))
  create_state, _ = abstract_train_state(run)
  state = create_state()
  ema = jax.device_get(state.variables)
  ema['batch_stats']['s0_norm']['var'] = np.full(8, np.inf, np.float32)
  for name, part in ema['params']['head_logits'].items():
    ema['params']['head_logits'][name] = part * np.nan
  workdir = tmp_path / 'diverged'
  with saving.open_checkpoints(workdir, run.checkpoint, pytest.fail) as manager:
    saving.save_checkpoint(
      manager,
      state.replace(ema=ema),
      step=0,
      progress=Progress(),
      metadata=run.metadata,
    )
  said = 'batch_stats/s0_norm/var and 2 other arrays are not finite'
  with pytest.raises(
    UserError, match=f'The checkpoint .* of init_from .*{said}'
  ):
    _prepare(_config(2, (28, 28), 10, workdir), tmp_path / 'run')
  (note,) = load_trained_model(workdir).changes
  assert note.startswith(said)
  assert not load_trained_model(pretrained).changes

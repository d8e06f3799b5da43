"""A run that starts from a file of weights, with nothing said of it."""

import pathlib
import shutil

import cv2
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import coatnet_jax
import train
from coatnet_jax.config_flag import load_config
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import follow_init_from, is_weights_file
from coatnet_jax.initial_state import prepare_train_state
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.run import create_run, resolve_values
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import names, native
from configs import finetune_folder
from tests.quick_configs import create_synthetic_config
from tests.weights.state_dicts import TEST_COATNET_PREPROCESSING

pytestmark = pytest.mark.usefixtures('tiny_variant')
SIZE = (32, 24)
TIMM = pathlib.Path(__file__).parent / 'golden' / 'test_coatnet.safetensors'


@pytest.fixture(scope='module')
def tensors(tiny_variant):
  """Random weights of 'tiny' for 10 classes at 224 px, by our names."""
  model = coatnet_jax.create_model('tiny', num_classes=10)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(np.float32),
    abstract_variables(model, (224, 224)),
  )
  return names.to_tensors(variables, native.naming)


@pytest.fixture
def weights(tensors, tmp_path):
  """A file of them, that says nothing of itself."""
  path = tmp_path / 'weights.safetensors'
  save_file(tensors, path)
  return path


def _prepare(path, workdir, classes=7, **changes):
  """Returns how a run on pictures of a size and of some classes starts."""
  config = create_synthetic_config(
    SIZE, classes, {'init_from': str(path), **changes}
  )
  run = create_run(config, workdir=str(workdir))
  create_state, _, lines = prepare_train_state(run, str(workdir))
  return create_state, lines


def test_another_size_and_other_classes(weights, tensors, tmp_path):
  create_state, lines = _prepare(weights, tmp_path / 'run')
  assert lines[:6] == [
    str(weights),
    "weights of tiny; preprocessing assumed, as timm's usual: the file does"
    ' not say',
    '            arrays       numbers',
    'taken           46        17,020',
    'resized          1           165',
    'initialised      2           231',
  ]
  assert 'head_logits: 10 classes replaced by 7, newly initialised' in lines
  said = [line for line in lines if line.startswith('preprocessing.mean: ')]
  assert said
  assert said[0].endswith('it was trained with (0.5, 0.5, 0.5)')
  state = create_state()
  head = state.params['head_logits']
  expected = coatnet_jax.load_weights(
    coatnet_jax.create_model('tiny', num_classes=10),
    weights,
    image_size=SIZE,
    report=lambda change: None,
  )
  expected['params']['head_logits'] = head
  assert head['kernel'].shape == (32, 7)
  assert np.std(head['kernel']) > 0.05
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
    state.variables,
    expected,
  )


def test_a_head_for_as_many_classes_is_kept(weights, tensors, tmp_path):
  create_state, lines = _prepare(weights, tmp_path / 'run', classes=10)
  assert 'initialised      0             0' in lines
  np.testing.assert_array_equal(
    create_state().params['head_logits']['kernel'],
    tensors['params/head_logits/kernel'],
  )


def test_a_file_that_says_no_normalisation_is_compared_with_none(
  tensors, tmp_path
):
  path = tmp_path / 'described.safetensors'
  native.write_tensors(
    path,
    tensors,
    native.Description(
      model={'name': 'tiny', 'num_classes': 10},
      preprocessing={},
      class_names=tuple('abcdefghij'),
    ),
  )
  _, lines = _prepare(path, tmp_path / 'run')
  assert 'trained with' not in ''.join(lines)


def test_a_file_without_a_head(tensors, tmp_path):
  path = tmp_path / 'body.safetensors'
  save_file({n: a for n, a in tensors.items() if '/head_' not in n}, path)
  create_state, lines = _prepare(path, tmp_path / 'run')
  assert any('without a head' in line for line in lines)
  assert 'head_logits: none there, newly initialised' in lines
  heads = [name for name in tensors if '/head_' in name]
  assert f'initialised {len(heads):6}' in '\n'.join(lines)
  state = create_state()
  assert np.all(np.isfinite(state.params['head_logits']['kernel']))
  np.testing.assert_array_equal(
    flatten(state.variables)['params/s0_conv_0/kernel'],
    tensors['params/s0_conv_0/kernel'],
  )


def _refuse(path, workdir, **changes):
  with pytest.raises(UserError) as info:
    _prepare(path, workdir, **changes)
  assert not workdir.exists()
  return str(info.value)


def test_weights_of_another_architecture_are_refused(weights, tmp_path):
  workdir = tmp_path / 'run'
  changes = {'model.name': 'coatnet_mini'}
  message = _refuse(weights, workdir, **changes)
  assert message.startswith(f'{weights} does not fit the model.')
  vit = tmp_path / 'vit.safetensors'
  save_file({'cls_token': np.zeros((1, 1, 8), np.float32)}, vit)
  message = _refuse(vit, workdir)
  assert message.startswith(f'{vit} holds no weights for this model')
  # Options that shapes don't tell.
  run_of = {'transformer': {'activation': 'relu'}}
  config = create_synthetic_config(SIZE, 7, {'init_from': str(weights)})
  with config.unlocked():
    config.model.update(run_of)
  with pytest.raises(UserError, match=r'that of the weights .* of init_from'):
    prepare_train_state(create_run(config), str(workdir))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'does not exist: give the workdir .*, a file of weights, or the n'),
    (b'', 'is empty; get it again'),
    (b'weights', 'is not a safetensors file, a PyTorch file or a Keras'),
    (b'PK\3\4' * 99, 'is truncated or damaged'),
  ],
)
def test_what_is_no_file_of_weights_is_a_sentence(content, message, tmp_path):
  path = tmp_path / 'weights.pth'
  if content is not None:
    path.write_bytes(content)
  config = finetune_folder.get_config()
  config.init_from = str(path)
  with pytest.raises(UserError, match=f'{path} {message}') as info:
    follow_init_from(resolve_values(config.to_dict()), str(tmp_path / 'run'))
  assert '\n' not in str(info.value)


def test_what_is_a_file_of_weights(weights, tmp_path, monkeypatch):
  assert is_weights_file(str(weights))
  assert is_weights_file('timm/coatnet_0_rw_224.sw_in1k')
  assert not is_weights_file(str(tmp_path))
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'timm' / 'mine').mkdir(parents=True)
  assert not is_weights_file('timm/mine')


def _follow(config, workdir='new'):
  return follow_init_from(resolve_values(config.to_dict()), workdir)


def test_model_size_and_normalisation_are_the_files(tmp_path):
  config = finetune_folder.get_config()
  config.init_from = str(TIMM)
  followed, said = _follow(config, str(tmp_path / 'run'))
  assert followed['model']['name'] == 'test_coatnet'
  assert followed['preprocessing'] == TEST_COATNET_PREPROCESSING
  assert 'config.model.name: test_coatnet, as it was trained' in said


def test_what_the_user_sets_of_a_file_stays(tmp_path):
  config = load_config(
    finetune_folder.__file__,
    [
      f'--config.init_from={TIMM}',
      '--config.preprocessing.image_size=(64,96)',
      '--config.model.name=test_coatnet',
    ],
  )
  followed, _ = _follow(config, str(tmp_path / 'run'))
  assert followed['preprocessing']['image_size'] == (64, 96)
  assert followed['preprocessing']['std'] == (0.5, 0.5, 0.5)
  config.model.name = 'coatnet_pico_rw_224'
  with pytest.raises(UserError, match='does not fit the model'):
    _follow(config, str(tmp_path / 'run'))


@pytest.fixture
def pictures(tmp_path):
  """A folder of pictures of three colours."""
  rng = np.random.default_rng(0)
  for channel, name in enumerate(('ant', 'bee', 'cat')):
    (tmp_path / 'pictures' / name).mkdir(parents=True)
    for number in range(16):
      pixels = rng.integers(0, 90, (40, 50, 3), np.uint8)
      pixels[..., channel] += 120
      path = tmp_path / 'pictures' / name / f'{number}.png'
      assert cv2.imwrite(str(path), pixels)
  return tmp_path / 'pictures'


@pytest.mark.slow
@pytest.mark.rotating
def test_the_one_command_and_again_without_the_file(pictures, tmp_path, capsys):
  """As README.md has it; then it goes on, and needs no weights."""
  path = tmp_path / 'coatnet.safetensors'
  shutil.copy(TIMM, path)
  config = load_config(
    finetune_folder.__file__,
    [
      f'--config.data.data_dir={pictures}',
      f'--config.init_from={path}',
      # To be quick.
      '--config.preprocessing.image_size=(64,64)',
      '--config.training.global_batch_size=16',
      '--config.training.num_epochs=4',
      '--config.data.num_threads=1',
    ],
  )
  workdir = tmp_path / 'run'
  state = train.train_and_evaluate(config, str(workdir))
  printed = capsys.readouterr().out
  assert 'model       test_coatnet' in printed
  assert '1,000 classes replaced by 3, newly initialised' in printed
  assert 'resized 3 relative position tables, 10x10 to 4x4' in printed
  path.unlink()
  again = train.train_and_evaluate(config, str(workdir))
  assert 'init_from' not in capsys.readouterr().out
  jax.tree.map(np.testing.assert_array_equal, again.ema, state.ema)
  config.training.num_epochs = 5.0
  longer = train.train_and_evaluate(config, str(workdir))
  assert int(longer.step) > int(state.step)


@pytest.mark.parametrize(
  ('source', 'place', 'message'),
  [
    ('folder', 'nowhere', 'nowhere does not exist'),
    ('folder', '', 'data_dir is empty'),
    ('folder', 'list.csv', 'list.csv cannot be read'),
    ('idx', 'nowhere', 'no directory .*nowhere'),
  ],
)
def test_pictures_that_are_away_are_said_before_weights_are_fetched(
  source, place, message, tmp_path, monkeypatch
):
  def fetch(path):
    raise AssertionError(path)

  monkeypatch.setattr('coatnet_jax.weights.imported.locate_weights', fetch)
  config = finetune_folder.get_config()
  config.data.source = source
  config.data.train_split = 'train'
  config.data.data_dir = place and str(tmp_path / place)
  with pytest.raises(UserError, match=message):
    create_run(config, workdir=str(tmp_path / 'run'))

"""Weights in, weights out, and what is refused with nothing written."""

import io
import json
import pickle
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import coatnet_jax
import train
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.weights import names, native
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS
from configs import quickstart
from tests.weights.state_dicts import create_timm_state_dict
from tools import export_weights, import_timm

NAME = 'test_coatnet'


@pytest.fixture(scope='module')
def state_dict():
  """Returns random weights of test_coatnet with 10 classes, as timm has it."""
  return create_timm_state_dict(NAME, num_classes=10)


@pytest.fixture(scope='module')
def weights(state_dict, tmp_path_factory):
  """Returns a file of them; not to be changed."""
  path = tmp_path_factory.mktemp('weights') / 'weights.safetensors'
  save_file(state_dict, path)
  return path


def _import(weights, out, *arguments, variant=NAME):
  return import_timm.main(
    [f'--variant={variant}', f'--weights={weights}', f'--out={out}', *arguments]
  )


def _export(checkpoint, out, *arguments):
  return export_weights.main(
    [f'--checkpoint={checkpoint}', f'--out={out}', *arguments]
  )


@pytest.mark.slow
@pytest.mark.rotating
def test_there_and_back(weights, state_dict, tmp_path, capsys):
  listed = tmp_path / 'names.txt'
  listed.write_text('\n'.join('abcdefghij'))
  assert _import(weights, tmp_path / 'run', f'--class_names={listed}') == 0
  said = capsys.readouterr().out
  assert '160x160 px, timm, crop 0.95' in said
  assert "(assumed, as timm's usual: the file does not say)" in said

  trained = load_trained_model(tmp_path / 'run')
  assert trained.class_names == tuple('abcdefghij')
  assert trained.preprocessing.image_size == (160, 160)
  assert trained.preprocessing.mean == (0.5, 0.5, 0.5)
  assert trained.preprocessing.std == (0.5, 0.5, 0.5)
  assert trained.preprocessing.interpolation == 'bicubic'

  # timm's names.
  assert _export(tmp_path / 'run', tmp_path / 'timm.safetensors') == 0
  exported = load_file(tmp_path / 'timm.safetensors')
  assert exported.keys() == state_dict.keys()
  for name, tensor in state_dict.items():
    np.testing.assert_array_equal(exported[name], tensor)

  # Ours: what the file says of itself comes with it.
  native = tmp_path / 'native.safetensors'
  assert _export(tmp_path / 'run', native, '--layout=native') == 0
  capsys.readouterr()
  assert _import(native, tmp_path / 'again') == 0
  assert '(as the file says)' in capsys.readouterr().out
  again = load_trained_model(tmp_path / 'again')
  assert again.class_names == trained.class_names
  assert again.preprocessing == trained.preprocessing
  # With other classes, too, it has the preprocessing that the file names.
  assert _import(native, tmp_path / 'fewer', '--num_classes=3') == 0
  assert '(as the file says)' in capsys.readouterr().out
  fewer = load_trained_model(tmp_path / 'fewer')
  assert fewer.class_names == ('0', '1', '2')
  assert fewer.preprocessing == trained.preprocessing
  with pytest.raises(UserError, match='says that it is of test_coatnet'):
    _import(native, tmp_path / 'other', variant='coatnet_mini')
  assert not (tmp_path / 'other').exists()
  jax.tree.map(
    np.testing.assert_array_equal, again.variables, trained.variables
  )


def test_another_size_and_other_classes(weights, tmp_path, capsys):
  arguments = ('--image_size=64x96', '--num_classes=3')
  _import(weights, tmp_path / 'run', *arguments)
  said = capsys.readouterr().out
  assert 'resized 3 relative position tables, 10x10 to 4x6' in said
  assert '10 classes replaced by 3, newly initialised' in said
  trained = load_trained_model(tmp_path / 'run')
  assert trained.preprocessing.image_size == (64, 96)
  assert trained.class_names == ('0', '1', '2')


def test_a_file_without_a_head(state_dict, tmp_path, capsys):
  path = tmp_path / 'body.safetensors'
  body = {n: a for n, a in state_dict.items() if not n.startswith('head.')}
  save_file({f'encoder.{name}': array for name, array in body.items()}, path)
  with pytest.raises(UserError, match=r'has no head, .* --num_classes=N'):
    _import(path, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  _import(path, tmp_path / 'run', '--num_classes=3')
  said = capsys.readouterr().out
  assert f'{path}: prefix "encoder." taken off' in said
  assert 'has no head; the head for 3 classes is newly initialised' in said
  trained = load_trained_model(tmp_path / 'run')
  assert trained.class_names == ('0', '1', '2')


class _RunsCode:
  def __reduce__(self):
    return print, ('this code ran',)


def _write_pickled_code(path):
  buffer = io.BytesIO()
  pickle.dump({'stem.conv1.weight': _RunsCode()}, buffer)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', buffer.getvalue())
    archive.writestr('archive/version', '3')


def _write_truncated(path, weights):
  path.write_bytes(weights.read_bytes()[:100_000])


def _write_vit(path):
  save_file({'cls_token': np.zeros((1, 1, 8), np.float32)}, path)


@pytest.mark.parametrize(
  ('write', 'message'),
  [
    (lambda path, _: path.write_bytes(b''), 'is empty'),
    (_write_truncated, 'truncated'),
    (lambda path, _: _write_pickled_code(path), 'print'),
    (lambda path, _: _write_vit(path), 'holds no weights for this model'),
    (lambda path, _: None, 'does not exist|no such file|There is no file'),
  ],
  ids=['empty', 'truncated', 'pickled code', 'wrong architecture', 'missing'],
)
def test_a_bad_file_is_one_sentence_and_nothing_is_written(
  write, message, weights, tmp_path, capsys
):
  path = tmp_path / 'bad.safetensors'
  write(path, weights)
  with pytest.raises(UserError, match=message) as error:
    _import(path, tmp_path / 'run')
  assert str(path) in str(error.value)
  assert not (tmp_path / 'run').exists()
  assert 'this code ran' not in capsys.readouterr().out


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('--image_size=100',), 'divisible by 32'),
    (('--image_size=big',), "--image_size is 'big'"),
    (('--num_classes=0',), '--num_classes is 0; .* at least 1'),
    (('--class_names=nowhere',), 'nowhere cannot be read'),
    (('--class_names={weights}',), 'cannot be read'),
    (('--class_names={names}',), 'has 2 names; the weights have 10 classes'),
  ],
)
def test_bad_arguments(arguments, message, weights, tmp_path):
  listed = tmp_path / 'names.txt'
  listed.write_text('cat\ndog\n')
  arguments = [a.format(weights=weights, names=listed) for a in arguments]
  with pytest.raises(UserError, match=message):
    _import(weights, tmp_path / 'run', *arguments)
  assert not (tmp_path / 'run').exists()


def test_the_wrong_variant(weights, tmp_path):
  with pytest.raises(UserError, match='does not fit the model') as error:
    _import(weights, tmp_path / 'run', variant='coatnet_pico_rw_224')
  assert '  stem.conv1.weight: (16, 3, 3, 3) in the file' in str(error.value)
  with pytest.raises(UserError, match="is 'coatnet_8'; it must"):
    _import(weights, tmp_path / 'run', variant='coatnet_8')
  assert not (tmp_path / 'run').exists()


def test_what_exists_is_not_overwritten(weights, tmp_path):
  with pytest.raises(UserError, match='exists already'):
    _import(weights, weights.parent)
  with pytest.raises(UserError, match='exists already'):
    _export(tmp_path, weights)
  with pytest.raises(UserError, match='there is no directory'):
    _export(tmp_path, tmp_path / 'nowhere' / 'file.safetensors')
  with pytest.raises(UserError, match='has no checkpoint'):
    _export(tmp_path, tmp_path / 'file.safetensors')


def test_only_what_timm_has_gets_timms_names(tmp_path):
  model = coatnet_jax.create_model('coatnet_mini', num_classes=10)
  variables = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, leaf.dtype),
    abstract_variables(model, (28, 28)),
  )
  first, second = (
    tmp_path / 'first.safetensors',
    tmp_path / 'second.safetensors',
  )
  save_file(names.to_tensors(variables, native.naming), first)
  _import(first, tmp_path / 'run', variant='coatnet_mini')
  with pytest.raises(UserError, match='timm has no model called coatnet_mini'):
    _export(tmp_path / 'run', second, '--layout=timm')
  assert not second.exists()
  assert _export(tmp_path / 'run', second) == 0
  jax.tree.map(
    np.testing.assert_array_equal,
    coatnet_jax.load_weights(model, second),
    variables,
  )


def test_options_of_a_variant_come_along(tmp_path):
  options = {'transformer': {'activation': 'gelu_tanh'}}
  model = coatnet_jax.create_model(NAME, num_classes=2, **options)
  variables = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, leaf.dtype),
    abstract_variables(model, (160, 160)),
  )
  first, second = tmp_path / '1.safetensors', tmp_path / '2.safetensors'
  native.write_tensors(
    first,
    names.to_tensors(variables, native.naming),
    native.Description(
      model={'name': NAME, 'num_classes': 2, **options},
      preprocessing=PUBLISHED_WEIGHTS[0].preprocessing,
      class_names=('cat', 'dog'),
    ),
  )
  _import(first, tmp_path / 'run')
  trained = load_trained_model(tmp_path / 'run')
  assert trained.model.variant.transformer.activation == 'gelu_tanh'
  # Not what timm's model computes, though its shapes are the same.
  with pytest.raises(
    UserError, match=r'test_coatnet has another transformer\.activation'
  ):
    _export(tmp_path / 'run', second, '--layout=timm')
  assert _export(tmp_path / 'run', second) == 0
  assert 'params/s0_conv_0/kernel' in load_file(second)


@pytest.mark.slow
@pytest.mark.rotating
def test_a_checkpoint_like_any_other(
  weights, image_dir, run_tool, tmp_path, capsys
):
  run = tmp_path / 'run'
  _import(weights, run, '--image_size=32')
  config = quickstart.get_config()
  config.logging.report = False
  data = [
    f'--data.{name}={config.data[name]}'
    for name in ('source', 'name', 'data_dir')
  ]
  data += ['--data.eval_split=test[:100]', '--batch_size=50']
  result = run_tool('evaluate', f'--checkpoint={run}', '--json', *data)
  assert result.returncode == 0, result.stderr
  assert json.loads(result.stdout)['count'] == 100
  result = run_tool(
    'predict', f'--checkpoint={run}', '--json', min(image_dir.iterdir())
  )
  assert result.returncode == 0, result.stderr
  assert len(json.loads(result.stdout)[0]['predictions']) == 5

  config.init_from = str(run)
  config.model.name = NAME
  config.preprocessing.image_size = (64, 64)
  config.data.train_split = 'train[:64]'
  config.data.eval_split = 'test[:50]'
  config.schedule.warmup_epochs = 0.0
  config.training.num_steps = 2
  config.training.global_batch_size = 16
  train.train_and_evaluate(config, str(tmp_path / 'finetuned'))
  assert 'resized 3 relative position tables' in capsys.readouterr().out

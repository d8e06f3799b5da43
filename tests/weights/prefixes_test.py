"""Weights of a wrapped model, of a part of one, and without a head."""

import functools

import h5py
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import loading, prefixes, timm
from coatnet_jax.weights.files import read_weights
from coatnet_jax.weights.loading import (
  count_classes,
  read_variables,
)
from tests.golden import keras_cv_cases as cases
from tests.weights import keras_cv_test
from tests.weights.torch_writer import write_torch_file

NAME = 'test_coatnet'
PREFIXES = (
  'module.',
  '_orig_mod.',
  'model.',
  'backbone.',
  'encoder.',
  'module._orig_mod.',
  'model.backbone.net.0.',
  'state_dict.module.',
)


@pytest.fixture(scope='module')
def model():
  return coatnet_jax.create_model(NAME, num_classes=10)


@pytest.fixture(autouse=True, scope='module')
def shapes_once():
  """Traces a model once, not for every file."""
  with pytest.MonkeyPatch.context() as patch:
    cached = functools.cache(loading.abstract_variables)
    patch.setattr(loading, 'abstract_variables', cached)
    yield


@pytest.fixture(scope='module')
def state_dict(model):
  """Returns random weights of test_coatnet with 10 classes, as timm has it."""
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
    abstract_variables(model, (160, 160)),
  )
  return timm.to_state_dict(variables, model.variant)


def _prefixed(state_dict, prefix):
  return {prefix + name: array for name, array in state_dict.items()}


def _headless(state_dict):
  return {n: a for n, a in state_dict.items() if not n.startswith('head.fc.')}


def _doubled(state_dict):
  return {name: np.asarray(2 * array) for name, array in state_dict.items()}


def _write(tmp_path, content, suffix='.safetensors'):
  path = tmp_path / f'weights{suffix}'
  if suffix == '.safetensors':
    save_file({n: np.asarray(a, order='C') for n, a in content.items()}, path)
  else:
    write_torch_file(path, content)
  return path


def _read(model, path):
  """Returns the tensors that a file is taken for, and what is said."""
  said = []
  variables = read_variables(model, read_weights(path), report=said.append)
  return timm.to_state_dict(variables, model.variant), said


def _assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for name, array in found.items():
    if not name.endswith('num_batches_tracked'):
      np.testing.assert_array_equal(array, expected[name], name)


@pytest.mark.parametrize(
  ('prefix', 'suffix'),
  [(prefix, '.safetensors') for prefix in PREFIXES]
  + [(prefix, '.pth') for prefix in PREFIXES[::3]],
)
def test_a_prefix_is_found_in_every_format(
  prefix, suffix, model, state_dict, tmp_path
):
  path = _write(tmp_path, _prefixed(state_dict, prefix), suffix)
  found, said = _read(model, path)
  _assert_equal(found, state_dict)
  assert said
  rest = prefix.replace('_orig_mod.', '')
  if rest:
    assert said[-1] == (
      f'{path}: prefix "{rest}" taken off the names of {len(state_dict)}'
      ' tensors.'
    )
  if rest != prefix:
    assert said[0] == f'{path}: "_orig_mod." taken out of the names.'


def test_a_prefix_of_a_keras_file(tmp_path):
  """As of a model that is a layer of another, and of none."""
  model = keras_cv_test.create_small()
  path = tmp_path / 'nested.h5'
  tensors = read_weights(keras_cv_test.SMALL).tensors
  with h5py.File(path, 'w') as file:
    for layer in ('backbone', 'coatnet0'):
      group = file.create_group(layer)
      listed = tensors if layer == 'backbone' else {}
      group.attrs['weight_names'] = [f'{name}:0' for name in listed]
      for name, array in listed.items():
        group[f'{name}:0'] = array
    file.attrs['layer_names'] = ['backbone', 'coatnet0']
  said = []
  found = read_variables(model, read_weights(path), report=said.append)
  expected = read_variables(
    model, read_weights(keras_cv_test.SMALL), report=pytest.fail
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert 'prefix "backbone/" taken off' in said[0]
  assert count_classes(found) == cases.NUM_CLASSES


def test_a_prefix_of_our_own_names(model, state_dict, tmp_path):
  plain = read_variables(
    model, read_weights(_write(tmp_path, state_dict)), report=pytest.fail
  )
  ours = {f'ema/{n}': a for n, a in flatten(plain).items()}
  found, said = _read(model, _write(tmp_path, ours))
  _assert_equal(found, state_dict)
  assert 'prefix "ema/" taken off' in said[0]


@pytest.mark.parametrize(
  ('wrap', 'entry'),
  [
    (lambda sd: {'model_state_dict': sd, 'epoch': 3}, 'model_state_dict'),
    (lambda sd: {'state_dict': sd, 'best': np.float32([9])}, 'state_dict'),
    (lambda sd: {'model': _prefixed(sd, 'module.')}, 'model'),
    (lambda sd: {'net': sd, 'optimizer': {'state': {'m': sd}}}, 'net'),
    (lambda sd: {'checkpoint': {'weights': sd}}, 'checkpoint.weights'),
    (lambda sd: {'model': _doubled(sd), 'model_ema': sd}, 'model_ema'),
    (
      lambda sd: {'state_dict': _doubled(sd), 'state_dict_ema': sd},
      'state_dict_ema',
    ),
    (lambda sd: {'ema': {'module': sd}, 'model': _doubled(sd)}, 'ema.module'),
    (lambda sd: {'student': _doubled(sd), 'teacher': sd}, 'teacher'),
    (lambda sd: {'model': sd, 'ema': {'decay': np.float32([1])}}, 'model'),
  ],
)
def test_a_state_dict_in_a_checkpoint(wrap, entry, model, state_dict, tmp_path):
  path = _write(tmp_path, wrap(state_dict), '.pth')
  assert read_weights(path).metadata['state_dict'] == entry
  found, _ = _read(model, path)
  _assert_equal(found, state_dict)


@pytest.mark.parametrize(
  ('average', 'other'),
  [('ema_model.', 'model.'), ('teacher.', 'student.'), ('model_ema.', '')],
)
def test_averages_come_first(average, other, model, state_dict, tmp_path):
  path = _write(
    tmp_path,
    {
      **_prefixed(_doubled(state_dict), other),
      **_prefixed(state_dict, average),
    },
  )
  found, said = _read(model, path)
  _assert_equal(found, state_dict)
  assert f'prefix "{average}"' in said[0]
  assert f'{len(state_dict)} tensors without the prefix left out' in said[1]


def test_two_models_are_refused(model, state_dict, tmp_path):
  content = {**_prefixed(state_dict, 'a.'), **_prefixed(state_dict, 'b.')}
  with pytest.raises(UserError, match=r'has 2 models, .*"a\.", "b\."; save'):
    _read(model, _write(tmp_path, content))


@pytest.mark.parametrize(
  ('prefix', 'beside'), [('backbone.', ''), ('module.body.', 'module.')]
)
def test_a_head_beside_the_prefix(prefix, beside, model, state_dict, tmp_path):
  content = {
    (prefix if name in _headless(state_dict) else beside) + name: array
    for name, array in state_dict.items()
  }
  content['loss.weight'] = np.ones(3, np.float32)
  found, said = _read(model, _write(tmp_path, content))
  _assert_equal(found, state_dict)
  assert said[-1].endswith(
    '1 tensors without the prefix left out (loss.weight).'
  )


def test_names_inside_a_wrapper():
  name = 'layers._fsdp_wrapped_module.0._checkpoint_wrapped_module.conv.weight'
  found, said = prefixes.remove_wrappers({name: np.ones(1)})
  assert list(found) == ['layers.0.conv.weight']
  assert '"_checkpoint_wrapped_module." and "_fsdp_wrapped' in said[0]
  # Two of one name afterwards are left alone.
  both = {'_orig_mod.a': np.ones(1), 'a': np.ones(1)}
  assert prefixes.remove_wrappers(both) == (both, [])


@pytest.mark.parametrize(
  ('prefix', 'lacks'),
  [('', ('head.fc.',)), ('encoder.', ('head.', 'norm.'))],
)
def test_a_file_without_a_head(prefix, lacks, model, state_dict, tmp_path):
  content = {n: a for n, a in state_dict.items() if not n.startswith(lacks)}
  path = _write(tmp_path, _prefixed(content, prefix))
  with pytest.raises(
    UserError, match=r'has no head: .* the 10 classes'
  ) as info:
    coatnet_jax.load_weights(model, path, report=str)
  assert 'num_classes=0' in str(info.value)
  said = []
  variables = coatnet_jax.load_weights(
    model, path, new_head=jax.random.key(1), report=said.append
  )
  assert said[-1] == (
    f'{path}: has no head; the head for 10 classes is newly initialised.'
  )
  found = timm.to_state_dict(variables, model.variant)
  assert found.keys() == state_dict.keys()
  assert found['head.fc.weight'].shape == (10, 128)
  assert np.abs(found['head.fc.weight']).max() > 0
  kept = {n: found[n] for n in content}
  _assert_equal(kept, content)


@pytest.mark.parametrize(
  'lacks', [('head.fc.',), ('head.', 'norm.'), ('head.',)]
)
def test_features_need_no_head(lacks, state_dict, tmp_path):
  content = {n: a for n, a in state_dict.items() if not n.startswith(lacks)}
  path = _write(tmp_path, content)
  features = coatnet_jax.create_model(NAME, num_classes=0)
  variables = coatnet_jax.load_weights(features, path, report=str)
  assert not any('head' in name for name in variables['params'])


def test_a_head_that_lacks_a_part_is_no_missing_head(
  model, state_dict, tmp_path
):
  for name in ('head.fc.bias', 'head.fc.weight', 'norm.weight'):
    content = {n: a for n, a in state_dict.items() if n != name}
    with pytest.raises(UserError, match=f'  {name}: missing in the file'):
      _read(model, _write(tmp_path, content))


def test_the_golden_file_has_no_prefix(tmp_path):
  path = keras_cv_test.GOLDEN / 'test_coatnet.safetensors'
  tensors = load_file(path)
  assert prefixes.find_prefix(tensors, [timm.MARK], source='') == (
    timm.MARK,
    '',
  )

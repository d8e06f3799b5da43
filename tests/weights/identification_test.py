"""A file's variant is found by names and shapes, whatever it is called."""

import gzip
import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from coatnet_jax.errors import UserError
from coatnet_jax.models.timm_variants import VARIANTS
from coatnet_jax.weights import identification, native
from coatnet_jax.weights.files import WeightsFile, read_weights
from coatnet_jax.weights.identification import find_variant

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
# What timm's models have, from timm itself.
SHAPES = json.loads(
  gzip.decompress((GOLDEN / 'timm_state_dicts.json.gz').read_bytes())
)
ALIKE = ('coatnet_rmlp_2_rw_224', 'coatnet_rmlp_2_rw_384')


def _file(tensors, path='weights.safetensors'):
  return WeightsFile(
    tensors=tensors,
    metadata={},
    format='safetensors',
    path=pathlib.Path(path),
  )


def _create_file(name, path='weights.safetensors', prefix=''):
  """Returns a file with timm's names and shapes, and no numbers of its own."""
  tensors = {
    prefix + key: np.broadcast_to(np.float32(0), shape)
    for key, shape in SHAPES[name]['shapes'].items()
  }
  return _file(tensors, path)


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', [n for n in SHAPES if n not in ALIKE])
def test_every_model_of_timm_is_found(name):
  assert find_variant(_create_file(name, prefix='module.')) == name


@pytest.mark.parametrize('name', SHAPES)
def test_few_variants_are_alike(name, monkeypatch):
  looked_at = []
  monkeypatch.setattr(
    identification, '_fits', lambda name, _: looked_at.append(name)
  )
  with pytest.raises(UserError):
    find_variant(_create_file(name))
  assert name in looked_at
  assert len(looked_at) <= 4


def test_a_variant_that_is_alike_is_chosen_by_the_name_of_the_file(monkeypatch):
  monkeypatch.setattr(identification, '_fits', lambda name, _: name in ALIKE)
  path = 'coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k.safetensors'
  assert find_variant(_create_file(ALIKE[0], path)) == ALIKE[1]
  # As the hub's cache calls it.
  path = f'models--timm--{path.removesuffix(".safetensors")}/model.safetensors'
  assert find_variant(_create_file(ALIKE[0], path)) == ALIKE[1]
  with pytest.raises(UserError, match=f'variants, {", ".join(ALIKE)}: say whi'):
    find_variant(_create_file(ALIKE[0]))


@pytest.mark.slow
def test_variants_that_are_alike_fit_both():
  with pytest.raises(UserError, match=f'variants, {", ".join(ALIKE)}: say whi'):
    find_variant(_create_file(ALIKE[1]))


def test_timm_has_all_of_them():
  assert set(SHAPES) == set(VARIANTS)


def test_a_file_without_a_head_is_found():
  weights = _create_file('test_coatnet')
  for name in [n for n in weights.tensors if n.startswith('head.')]:
    del weights.tensors[name]
  assert find_variant(weights) == 'test_coatnet'


@pytest.mark.slow
@pytest.mark.rotating
def test_names_of_keras_and_of_this_project(tiny_variant):
  from coatnet_jax.models.factory import create_model
  from coatnet_jax.models.variables import abstract_variables
  from coatnet_jax.weights import keras_cv, names

  def create_file(name, naming):
    model = create_model(name, num_classes=10, attention='reference')
    variables = abstract_variables(model, model.variant.image_size)
    return _file(
      names.to_tensors(
        jax.tree.map(
          lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables
        ),
        naming(model.variant),
      )
    )

  ours = create_file('tiny', lambda _: native.naming)
  assert find_variant(ours) == 'tiny'
  keras = create_file('coatnet_0_keras_cv', keras_cv.naming)
  assert find_variant(keras) == 'coatnet_0_keras_cv'
  # Some shapes say too little.
  with pytest.raises(UserError, match=r'coatnet_0, coatnet_0_cctt, .*: say wh'):
    find_variant(create_file('coatnet_0', lambda _: native.naming))


def test_what_is_no_variant_is_refused_in_a_sentence():
  weights = _create_file('test_coatnet')
  del weights.tensors['stages.0.blocks.0.se.fc1.weight']
  with pytest.raises(UserError) as info:
    find_variant(weights)
  assert str(info.value).startswith(
    'weights.safetensors is of a CoAtNet that is none of the'
    f' {len(identification.VARIANTS)} variants there are; those most like it'
    ' are test_coatnet: say by config.model.name'
  )
  other = _file({'stem.conv1.weight': np.zeros((5, 3, 3, 3), np.float32)})
  with pytest.raises(UserError, match=r'none of the .* there are: say by'):
    find_variant(other)
  vit = _file({'cls_token': np.zeros((1, 1, 8), np.float32)})
  with pytest.raises(UserError, match=r'tensors \(cls_token, ...\) is the mod'):
    find_variant(vit)


def test_a_real_file_of_timm_is_found():
  path = GOLDEN / 'test_coatnet.safetensors'
  assert load_file(path)
  assert find_variant(read_weights(path)) == 'test_coatnet'

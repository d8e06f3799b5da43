"""What belongs to weights that say nothing of it themselves."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from coatnet_jax import create_model
from coatnet_jax.errors import UserError
from coatnet_jax.imagenet_classes import list_class_names
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.weights import native
from coatnet_jax.weights.imported import (
  find_file_size,
  find_published,
  named_as_source,
  open_weights,
)
from coatnet_jax.weights.published import PUBLISHED_WEIGHTS
from tests.weights.state_dicts import (
  TEST_COATNET_PREPROCESSING,
  create_timm_state_dict,
)

NAME = 'test_coatnet'


def _save(path, num_classes=10, **tensors):
  state = create_timm_state_dict(NAME, num_classes=num_classes)
  save_file({**state, **tensors}, path)
  return path


def _open(path, name=None):
  return open_weights(path, name, report=pytest.fail)


def test_a_file_that_says_nothing_gets_timms_usual_preprocessing(tmp_path):
  found = _open(_save(tmp_path / 'weights.safetensors'))
  assert found.model_arguments == {'name': NAME}
  assert found.name == NAME
  assert found.num_classes == found.model.num_classes == 10
  assert found.class_names == tuple('0123456789')
  assert found.preprocessing == TEST_COATNET_PREPROCESSING
  assert found.origin.startswith("assumed, as timm's usual")
  assert not found.is_described


def test_classes_of_imagenet_are_known_by_their_number(tmp_path):
  found = _open(_save(tmp_path / 'weights.safetensors', num_classes=1000), NAME)
  assert found.class_names == list_class_names(1000)
  assert found.class_names[413] == 'n02749479'


def test_the_size_is_that_of_the_tables():
  model = create_model(NAME, num_classes=2)
  assert find_file_size(model, abstract_variables(model, (96, 160))) == (
    96,
    160,
  )
  # Positions that an MLP computes say nothing.
  model = create_model(NAME, transformer={'relative_position': 'mlp'})
  variables = abstract_variables(model, (96, 96))
  assert find_file_size(model, variables) == (160, 160)


@pytest.mark.parametrize('published', PUBLISHED_WEIGHTS, ids=lambda p: p.tag)
def test_published_weights_get_their_own_preprocessing(published):
  arguments = published.variant, published.image_size, published.num_classes
  found = find_published(*arguments)
  assert found.preprocessing == published.preprocessing
  assert find_published(*arguments, f'/x/{published.tag}.pth') is published
  # Without a head, and called anything.
  assert find_published(*arguments[:2], None).preprocessing == (
    published.preprocessing
  )


def test_weights_that_nobody_published():
  assert find_published('coatnet_0_224', (224, 224), 1000) is None


@pytest.mark.parametrize('found', ['coatnet_0', 'coatnet_mini'])
def test_weights_that_say_another_variant_are_refused(found, tmp_path):
  path = tmp_path / 'w.safetensors'
  native.write_tensors(
    path,
    {native.MARK: np.zeros(1, np.float32)},
    native.Description(
      model={'name': found, 'num_classes': 1},
      preprocessing={},
      class_names=('a',),
    ),
  )
  with pytest.raises(
    UserError,
    match=f'says that it is of {found}; give .* or a file of coatnet_2',
  ) as info:
    _open(path, 'coatnet_2')
  assert '\n' not in str(info.value)


def test_what_a_file_says_is_named_as_the_files():
  with (
    pytest.raises(UserError, match=r'FILE says of its model .* export it'),
    named_as_source('FILE', is_described=True),
  ):
    raise TypeError('no such option')
  with (
    pytest.raises(TypeError, match='no such option'),
    named_as_source('FILE', is_described=False),
  ):
    raise TypeError('no such option')

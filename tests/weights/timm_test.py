"""Our models against timm's, by golden files: neither torch nor timm is needed.

For each of timm's models there is a small one of the same form, with weights
and images made by NumPy, and what timm made of them. See tests/golden/
make_timm_golden.py; tests/parity compares the models themselves.
"""

import functools
import gzip
import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import coatnet_jax
from coatnet_jax.models.architecture import BlockGroup, Stage
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.models.variants import get_variant, list_variants
from coatnet_jax.tree_names import flatten
from coatnet_jax.weights import names, timm
from tests.golden import timm_cases, timm_training
from tests.golden.timm_comparison import (
  assert_close,
  assert_running_statistics_close,
)

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
# As a part of the range: ten times finer than what is asked.
TOLERANCE = 1e-5


@functools.cache
def state_dicts():
  return json.loads(
    gzip.decompress((GOLDEN / 'timm_state_dicts.json.gz').read_bytes())
  )


@functools.cache
def expected_outputs():
  return load_file(GOLDEN / 'timm_small.safetensors')


def create_small_model(name):
  """Returns our model of the sizes of timm's small one."""
  sizes = timm_cases.get_small_sizes(name)
  stages = []
  for stage, width, depth in zip(
    get_variant(name).stages, sizes['embed_dim'], sizes['depths']
  ):
    *first, last = stage.groups
    groups = [BlockGroup(g.kind, g.num_blocks, width) for g in first]
    depth -= sum(group.num_blocks for group in first)
    groups.append(BlockGroup(last.kind, depth, width))
    stages.append(Stage(tuple(groups), stage.stride))
  return coatnet_jax.create_model(
    name,
    num_classes=timm_cases.SMALL_NUM_CLASSES,
    batch_norm_momentum=0.9,
    stem={'widths': sizes['stem_width']},
    stages=tuple(stages),
    # As timm's: training is compared without what is random in it.
    transformer={'relative_position_mlp_dropout': 0.0},
    image_size=timm_cases.SMALL_IMAGE_SIZE,
  )


def create_small_images():
  images = timm_cases.create_images(2, timm_cases.SMALL_IMAGE_SIZE)
  return timm_cases.normalise(images)


# Some of timm's models are of one form: what is computed of their small models
# is the same.
@functools.cache
def load(model, shapes, folder):
  """Returns the variables, read from a file as timm writes it."""
  path = folder / 'small.safetensors'
  save_file(timm_cases.randomise_state(dict(shapes)), path)
  return coatnet_jax.load_weights(model, path)


@functools.cache
def run(model, *file):
  """Returns logits, maps and what a step makes of the running statistics.

  All of it is one program: compiling is what takes the time.
  """

  @jax.jit
  def run_model(variables, images):
    logits, sown = model.apply(
      variables, images, train=False, mutable=['intermediates']
    )
    _, updates = model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
    return logits, sown['intermediates'], updates

  return jax.device_get(run_model(load(model, *file), create_small_images()))


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A function of a name: what `load` and `run` take."""
  folder = tmp_path_factory.mktemp('timm')

  def create(name):
    shapes = state_dicts()[name]['small_shapes'].items()
    shapes = tuple((key, tuple(shape)) for key, shape in shapes)
    return create_small_model(name), shapes, folder

  return create


def test_all_of_timms_models_are_variants():
  assert len(timm_cases.NAMES) == 23
  assert set(timm_cases.NAMES) == set(state_dicts())
  assert set(timm_cases.NAMES) <= set(list_variants())


@pytest.mark.parametrize('name', timm_cases.NAMES)
def test_names_shapes_and_sizes_are_timms(name):
  model = coatnet_jax.create_model(name)
  size = timm_cases.get_image_size(name)
  assert model.variant.image_size == size
  variables = abstract_variables(model, size)
  golden = state_dicts()[name]
  assert (
    sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    == golden['num_parameters']
  )
  naming = timm.naming(model.variant)
  tensors = {path: naming(path) for path in flatten(variables)}
  ours = {
    tensors[path].name: names.compute_their_shape(tensors[path], leaf.shape)
    for path, leaf in flatten(variables).items()
  }
  assert len(ours) == len(tensors)
  assert ours == {
    key: tuple(shape)
    for key, shape in golden['shapes'].items()
    if not key.endswith(timm.IGNORED)
  }


# A model of each kind of block and table; the others take turns.
_ALWAYS = (
  'coatnet_0_224',
  'coatnet_nano_rw_224',
  'coatnet_rmlp_0_rw_224',
  'coatnext_nano_rw_224',
  'coatnet_2_rw_224',
)
_EVERY_NAME = pytest.mark.parametrize(
  'name',
  [
    name
    if name in _ALWAYS
    else pytest.param(name, marks=(pytest.mark.slow, pytest.mark.rotating))
    for name in timm_cases.NAMES
  ],
)


@_EVERY_NAME
def test_logits_and_maps_are_timms(small, name):
  logits, maps, _ = run(*small(name))
  expected = expected_outputs()
  assert_close(logits, expected[f'{name}/logits'], name, tolerance=TOLERANCE)
  for map_name in timm_cases.MAP_NAMES:
    parts = timm_cases.summarise_map(maps[map_name])
    for part, ours in parts.items():
      key = f'{name}/maps/{map_name}/{part}'
      assert_close(ours, expected[key], key, tolerance=TOLERANCE)


@_EVERY_NAME
def test_running_statistics_of_a_step_are_timms(small, name):
  model, *file = small(name)
  _, _, updates = run(model, *file)
  prefix = f'{name}/'
  expected = {
    key.removeprefix(prefix): array
    for key, array in expected_outputs().items()
    if key.startswith(prefix)
  }
  assert_running_statistics_close(
    updates,
    load(model, *file),
    expected,
    timm.naming(model.variant),
    tolerance=TOLERANCE,
  )
  # CoAtNeXt has no BatchNorm.
  norms = [key for key in expected if key.startswith('counts/')]
  assert bool(norms) == (name != 'coatnext_nano_rw_224')


@pytest.mark.parametrize('name', timm_cases.NAMES)
def test_what_is_written_is_what_was_read(small, name):
  model, shapes, folder = small(name)
  variables = load(model, shapes, folder)
  written = names.to_tensors(variables, timm.naming(model.variant))
  state = timm_cases.randomise_state(dict(shapes))
  assert set(written) == {k for k in state if not k.endswith(timm.IGNORED)}
  for key, array in written.items():
    np.testing.assert_array_equal(array, state[key], err_msg=key)


def test_a_file_of_timms_gives_its_logits():
  path = GOLDEN / 'test_coatnet.safetensors'
  model = coatnet_jax.create_model('test_coatnet')
  variables = coatnet_jax.load_weights(model, path)
  images = timm_cases.create_images(2, model.variant.image_size)
  logits = jax.jit(functools.partial(model.apply, train=False))(
    variables, timm_cases.normalise(images)
  )
  expected = load_file(GOLDEN / 'test_coatnet_expected.safetensors')['logits']
  assert_close(np.asarray(logits), expected, 'logits', tolerance=TOLERANCE)


# Ten times finer than what is asked, too.
@pytest.mark.slow
@pytest.mark.rotating
def test_training_loses_what_timms_model_loses_in_pytorch():
  losses = timm_training.train_test_coatnet(GOLDEN / 'test_coatnet.safetensors')
  expected = load_file(GOLDEN / 'test_coatnet_expected.safetensors')['losses']
  assert expected[0] > 6
  assert expected[-1] < 0.6 * expected[0]
  np.testing.assert_allclose(losses, expected, rtol=1e-4)

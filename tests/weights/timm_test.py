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
from coatnet_jax.models.architecture import Blocks, Stage
from coatnet_jax.models.variants import get_variant
from tests.golden import timm_cases, timm_training
from tests.golden.timm_comparison import (
  assert_close,
)

GOLDEN = pathlib.Path(__file__).parent.parent / 'golden'
# As a part of the range: ten times finer than what is asked.
TOLERANCE = 1e-5
# Together they have nearly every option and every kind of block; the others are
# slow. test_coatnet has tests of its own, of its full size.
QUICK = (
  'coatnet_bn_0_rw_224',
  'coatnet_rmlp_1_rw_224',
  'coatnet_rmlp_3_rw_224',
  'coatnet_nano_cc_224',
  'coatnext_nano_rw_224',
  'coatnet_0_224',
)
EVERY_FORM = [
  name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
  for name in timm_cases.NAMES
]


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
    *first, last = stage.runs
    runs = [Blocks(run.kind, run.num_blocks, width) for run in first]
    depth -= sum(run.num_blocks for run in first)
    runs.append(Blocks(last.kind, depth, width))
    stages.append(Stage(tuple(runs), stage.stride))
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
def test_training_loses_what_timms_model_loses_in_pytorch():
  losses = timm_training.train_test_coatnet(GOLDEN / 'test_coatnet.safetensors')
  expected = load_file(GOLDEN / 'test_coatnet_expected.safetensors')['losses']
  assert expected[0] > 6
  assert expected[-1] < 0.6 * expected[0]
  np.testing.assert_allclose(losses, expected, rtol=1e-4)

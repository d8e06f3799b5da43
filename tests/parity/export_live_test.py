"""Weights back to timm: it loads our files, and gives our logits.

As `timm_live_test.py`, which says how to run it. That the file of every variant
has timm's own tensors is tested there.
"""

import re

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import train
from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.publishing.folder import write_folder
from tests.golden import timm_cases
from tests.golden.timm_comparison import assert_close
from tests.quick_configs import create_synthetic_config
from tools import export_weights, import_timm

pytestmark = pytest.mark.parity

# As a part of the range.
TOLERANCE = 1e-5
NUM_CLASSES = 3


@pytest.fixture(scope='module')
def timm_models():
  """What needs torch: imported by those tests alone that are run."""
  from tests.parity import timm_models

  return timm_models


@pytest.fixture
def checkpoint(request, tmp_path, timm_models):
  """A checkpoint of a model of timm's with random weights, at a size."""
  name, size = request.param
  shapes = timm_models.get_shapes(
    timm_models.create_meta_model(name, num_classes=NUM_CLASSES)
  )
  path = tmp_path / 'theirs.safetensors'
  save_file(timm_cases.randomise_state(shapes), path)
  out = tmp_path / 'checkpoint'
  import_timm.main(
    [
      *(f'--variant={name}', f'--weights={path}', f'--out={out}'),
      f'--image_size={size}',
    ]
  )
  return out


def _compare_with_timm(checkpoint, out, said):
  """Compares our logits with those of timm's model, made as we say."""
  import timm
  import torch

  (call,) = re.findall(
    r'^model +(timm\.create_model\(.*\)\.eval\(\))$', said, re.M
  )
  assert str(out) in call
  theirs = eval(call, {'timm': timm})  # What a person types.
  trained = load_trained_model(checkpoint)
  images = timm_cases.create_images(3, trained.preprocessing.image_size)
  images = timm_cases.normalise(images)
  with torch.inference_mode():
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    expected = theirs(inputs).numpy()
  found = jax.jit(
    lambda variables, images: trained.model.apply(
      variables, images, train=False
    )
  )(trained.variables, images)
  assert found.shape == (3, trained.model.num_classes)
  assert_close(found, expected, 'logits', tolerance=TOLERANCE)


@pytest.mark.rotating
@pytest.mark.parametrize(
  'checkpoint',
  [
    ('coatnet_0_rw_224', '224'),
    ('coatnet_nano_cc_224', '64x96'),
    ('coatnet_rmlp_nano_rw_224', '96x64'),
    ('coatnext_nano_rw_224', '64'),
    ('coatnet_0_224', '96'),
  ],
  indirect=True,
  ids=' at '.join,
)
def test_timm_gives_our_logits(checkpoint, tmp_path, capsys):
  out = tmp_path / "it's out.safetensors"
  arguments = [f'--checkpoint={checkpoint}', f'--out={out}', '--layout=timm']
  assert export_weights.main(arguments) == 0
  _compare_with_timm(checkpoint, out, capsys.readouterr().out)


@pytest.mark.rotating
@pytest.mark.parametrize('ema_decay', [0.0, 0.5])
def test_a_run_of_our_own(ema_decay, tmp_path, capsys):
  """Finetuned, with averages and without: what is evaluated is written."""
  config = create_synthetic_config(
    (64, 64),
    NUM_CLASSES,
    {
      'model.name': 'test_coatnet',
      'training.ema_decay': ema_decay,
      'training.num_steps': 2,
    },
  )
  train.train_and_evaluate(config, str(tmp_path / 'run'))
  capsys.readouterr()
  out = tmp_path / 'out.safetensors'
  export_weights.main([f'--checkpoint={tmp_path / "run"}', f'--out={out}'])
  _compare_with_timm(tmp_path / 'run', out, capsys.readouterr().out)


def test_timm_takes_what_is_published(tmp_path, timm_models):
  """A directory as on the hub: weights, head, size, crop and classes."""
  del timm_models
  import timm
  import torch

  config = create_synthetic_config(
    (64, 96),
    NUM_CLASSES,
    {'model.name': 'test_coatnet', 'training.num_steps': 1},
  )
  train.train_and_evaluate(config, str(tmp_path / 'run'))
  trained = load_trained_model(tmp_path / 'run')
  folder = tmp_path / 'published'
  folder.mkdir()
  write_folder(trained, folder, repository='me/test', licence=None)
  theirs = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
  told = theirs.pretrained_cfg
  assert tuple(told['input_size']) == (3, 64, 96)
  assert tuple(told['mean']) == trained.preprocessing.mean
  assert tuple(told['std']) == trained.preprocessing.std
  assert told['crop_pct'] == trained.preprocessing.eval_crop_fraction
  assert told['interpolation'] == trained.preprocessing.interpolation
  assert tuple(told['label_names']) == trained.class_names
  images = timm_cases.normalise(timm_cases.create_images(3, (64, 96)))
  with torch.inference_mode():
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  found = trained.model.apply(trained.variables, images, train=False)
  assert_close(found, expected.numpy(), 'logits', tolerance=TOLERANCE)


def test_timm_takes_our_preprocessing(timm_models):
  """What it is told is what our own evaluation does, in its own words."""
  del timm_models  # Lets timm be imported.
  import timm

  from coatnet_jax.weights import timm_config
  from coatnet_jax.weights.published import PUBLISHED_WEIGHTS

  for published in PUBLISHED_WEIGHTS:
    if not published.is_on_hub:
      continue
    call = timm_config.write_transform_call(published.preprocessing)
    arguments = eval(call.replace('timm.data.create_transform', 'dict'))
    model = f'{published.variant}.{published.tag.partition(".")[2]}'
    theirs = timm.get_pretrained_cfg(model)
    sizes = [theirs.input_size, theirs.test_input_size]
    assert arguments.pop('input_size') in sizes, model
    for key, value in arguments.items():
      np.testing.assert_equal(value, getattr(theirs, key), model)

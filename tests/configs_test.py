"""Every shipped config: its keys, its numbers, and that it trains."""

import importlib
import json
import pathlib
import re

import jax
import pytest
from ml_collections import ConfigDict

import train
from coatnet_jax.data.known_datasets import get_known_dataset
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.models import variants
from coatnet_jax.models.cnn_stem_vit import CNNStemViTVariant
from coatnet_jax.models.compute_options import ComputeOptions
from coatnet_jax.models.factory import create_model
from coatnet_jax.run import create_run, resolve_values
from coatnet_jax.training.workdir import config_to_json
from configs import base

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(
  path.stem
  for path in pathlib.Path(base.__file__).parent.glob('*.py')
  if path.stem not in ('__init__', 'base', 'recipes', 'small_pictures')
)


def load(name):
  return importlib.import_module(f'configs.{name}').get_config()


def on_synthetic_data(config):
  dataset = get_known_dataset(config.data.name)
  config.data.source = 'synthetic'
  config.data.synthetic_examples = dataset.num_train_examples
  return config


def test_the_configs_are_known_here():
  assert [
    'cnn_stem_vit',
    *(f'coatnet_{i}' for i in range(7)),
    'coatnet_6_d3072',
    'coatnet_7',
    'emoji',
    'fashion_mnist',
    'finetune_folder',
    'image_folder',
    'layout_study',
    'quickstart',
    'transfer_study',
  ] == CONFIGS


def test_values_are_of_their_keys_own_types():
  """So that a config is written down, and hashed, as it stands."""
  for name in CONFIGS:
    config = load(name)
    resolved = ConfigDict(resolve_values(config.to_dict()))
    assert config_to_json(resolved) == config_to_json(config), name


def test_what_the_base_names_is_there():
  text = pathlib.Path(base.__file__).read_text()
  files = re.findall(r'[\w/]+/\w+\.py', text)
  for file in files:
    assert (ROOT / file).is_file(), file
  names = re.findall(r'coatnet_jax\.[\w.]+\w', text)
  for name in names:
    module, _, attribute = name.rpartition('.')
    assert hasattr(importlib.import_module(module), attribute), name
  assert len(files) >= 3
  assert len(names) > 15


@pytest.mark.parametrize('name', CONFIGS)
def test_keys_are_those_of_base_and_locked(name):
  def keys(config):
    return {
      (section, key)
      for section, value in config.items()
      if hasattr(value, 'keys')
      for key in value
    }

  config = load(name)
  assert keys(config) == keys(base.get_config())
  with pytest.raises(AttributeError, match='optimizer'):
    config.optimiser = 1
  with pytest.raises(AttributeError, match='weight_decay'):
    config.optimizer.wieght_decay = 1


@pytest.mark.parametrize('name', [f'coatnet_{i}' for i in range(6)])
def test_large_configs_resolve_to_their_model(name):
  run = create_run(on_synthetic_data(load(name)))
  _, abstract_state = abstract_train_state(run)
  params = abstract_state.params
  assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {'float32'}
  sizes = [leaf.size for leaf in jax.tree.leaves(params)]
  millions = {0: 25, 1: 42, 2: 75, 3: 167, 4: 275, 5: 687}[int(name[-1])]
  assert round(sum(sizes) / 1e6) == millions


def test_a_config_may_change_options_of_the_variant():
  config = on_synthetic_data(load('coatnet_0'))
  with config.unlocked():
    config.model.transformer = ConfigDict({'head_dim': 64})
  run = create_run(config)
  assert run.model.variant.transformer.head_dim == 64
  metadata = json.loads(json.dumps(run.metadata.model))
  assert create_model(**metadata) == run.model


def test_a_checkpoint_does_not_say_how_attention_is_computed():
  """What was trained with a kernel is used where there is none."""
  config = on_synthetic_data(load('coatnet_0'))
  config.model.attention = 'reference'
  run = create_run(config)
  assert run.model.compute.attention == 'reference'
  metadata = run.metadata.model
  assert create_model(**metadata) == run.model.clone(compute=ComputeOptions())


# The quick start's is what tests/train_test.py runs.
@pytest.mark.rotating
@pytest.mark.parametrize(
  'name',
  [
    pytest.param('coatnet_2', marks=pytest.mark.slow),
    pytest.param('image_folder', marks=pytest.mark.slow),
    'cnn_stem_vit',
  ],
)
@pytest.mark.usefixtures('tiny_variant')
def test_shrunk_it_trains_two_steps(name, tmp_path, monkeypatch):
  config = load(name)
  if name == 'cnn_stem_vit':
    shrunk = CNNStemViTVariant(stem_widths=(8,), width=16, depth=1, num_heads=2)
    monkeypatch.setitem(variants.VARIANTS, name, shrunk)
  else:
    config.model.name = 'tiny'
  config.update_from_flattened_dict(
    {
      'preprocessing.image_size': (28, 28),
      'model.batch_norm_momentum': 0.9,
      'data.source': 'synthetic',
      'data.synthetic_examples': 32,
      'data.synthetic_classes': 4,
      'data.synthetic_image_size': (40, 30),
      'data.num_workers': 0,
      'schedule.warmup_steps': 0,
      'schedule.warmup_epochs': 0.0,
      'training.num_epochs': 0.0,
      'training.num_steps': 2,
      'training.global_batch_size': 16,
      'training.gradient_accumulation_steps': 2,
      'evaluation.global_batch_size': 20,
    }
  )
  state = train.train_and_evaluate(config, str(tmp_path))
  assert int(state.step) == 2


def test_imagenet_that_is_not_there_says_how_to_prepare_it(tmp_path):
  config = load('coatnet_0')
  config.data.data_dir = str(tmp_path / 'nothing')
  with pytest.raises(UserError) as error:
    train.train_and_evaluate(config, str(tmp_path / 'run'))
  message = str(error.value)
  assert str(tmp_path / 'nothing') in message
  assert 'tfds.builder("imagenet2012"' in message
  assert 'file_format="array_record"' in message
  assert 'ILSVRC2012_img_train.tar' in message
  assert not (tmp_path / 'run').exists()

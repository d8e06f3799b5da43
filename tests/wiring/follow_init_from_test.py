"""Finetuning takes over what the weights were trained with, and says so."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from coatnet_jax.config_flag import load_config
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import follow_init_from
from coatnet_jax.models.variables import abstract_variables
from coatnet_jax.run import resolve_values
from coatnet_jax.training import workdir as workdir_lib
from coatnet_jax.weights import native
from configs import base, finetune_folder, image_folder
from tests.weights.state_dicts import TEST_COATNET_PREPROCESSING
from tests.wiring import registry
from tests.wiring.registry import proves
from tools import import_timm

THEIRS = TEST_COATNET_PREPROCESSING | {
  'image_size': (96, 64),
  'std': (0.25, 0.5, 0.75),
  'interpolation': 'bilinear',
}
DEFAULTS = image_folder.get_config().follow_init_from
ALL = tuple(key for key, _ in DEFAULTS)


@pytest.fixture(scope='module')
def imported(tiny_variant, tmp_path_factory):
  """Weights of another model, of another size, imported."""
  from coatnet_jax.models.factory import create_model
  from coatnet_jax.weights import names

  directory = tmp_path_factory.mktemp('imported')
  options = {'name': 'tiny', 'transformer': {'activation': 'relu'}}
  model = create_model(**options, num_classes=3)
  variables = jax.tree.map(
    lambda leaf: np.ones(leaf.shape, np.float32),
    abstract_variables(model, (224, 224)),
  )
  path = directory / 'weights.safetensors'
  native.write_tensors(
    path,
    names.to_tensors(variables, native.naming),
    native.Description(
      model={**options, 'num_classes': 3},
      preprocessing={**THEIRS, 'image_size': (224, 224)},
      class_names=('a', 'b', 'c'),
    ),
  )
  out = directory / 'run'
  import_timm.main(
    [
      '--variant=tiny',
      f'--weights={path}',
      f'--out={out}',
      '--image_size=96x64',
    ]
  )
  return str(out)


def _follow(config, workdir):
  """Returns what `create_run` makes a run of, and what it says of it."""
  values = resolve_values(config.to_dict())
  followed, said = follow_init_from(values, str(workdir))
  return ConfigDict(followed), said


def _config(file, init_from, **changes):
  config = file.get_config()
  config.init_from = init_from
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize('file', [image_folder, finetune_folder])
def test_everything_is_taken_over_and_said(file, imported, tmp_path):
  before = _config(file, imported)
  config, said = _follow(before, tmp_path / 'new')
  assert config.preprocessing.to_dict() == THEIRS
  assert config.model.name == 'tiny'
  assert config.model.transformer.activation == 'relu'
  assert 'config.preprocessing.image_size: (96, 64), as it was trained' in said
  assert 'config.model.name: tiny, as it was trained' in said
  assert len(said) == len(ALL)
  # What is not named stays, and the config that came in too.
  assert config.schedule.to_dict() == before.schedule.to_dict()
  assert before.preprocessing.image_size == (64, 64)


@pytest.mark.parametrize(
  'chosen',
  [
    {'preprocessing.image_size': (128, 128)},
    {'preprocessing.mean': (0.1, 0.1, 0.1), 'preprocessing.std': (1.0,) * 3},
    {'model.name': 'coatnet_mini'},
    {'preprocessing.eval_resize': 'squash'},
  ],
)
def test_what_the_user_sets_stays(chosen, imported, tmp_path):
  arguments = [f'--config.{key}={value}' for key, value in chosen.items()]
  config = load_config(image_folder.__file__, arguments)
  assert config.follow_init_from == tuple(
    (key, value) for key, value in DEFAULTS if key not in chosen
  )
  config.init_from = imported
  config, _ = _follow(config, tmp_path / 'new')
  for key in ALL:
    section, name = key.split('.')
    theirs = 'tiny' if key == 'model.name' else THEIRS[name]
    assert config[section][name] == chosen.get(key, theirs)


@pytest.mark.parametrize(
  'chosen',
  [
    {'preprocessing.image_size': (128, 96)},
    {'preprocessing.std': (0.3, 0.3, 0.3), 'model.name': 'coatnet_1'},
    {'preprocessing.eval_crop_fraction': 1.0},
  ],
)
def test_what_code_sets_stays(chosen, imported, tmp_path):
  config = _config(finetune_folder, imported, **chosen)
  config, said = _follow(config, tmp_path / 'new')
  for key in ALL:
    section, name = key.split('.')
    theirs = 'tiny' if key == 'model.name' else THEIRS[name]
    assert config[section][name] == chosen.get(key, theirs)
  assert len(said) == len(ALL) - len(chosen)


def test_the_same_value_can_be_chosen(imported, tmp_path):
  config = load_config(
    finetune_folder.__file__,
    [
      f'--config.init_from={imported}',
      '--config.preprocessing.image_size=(64,64)',
      '--config.preprocessing.interpolation=bicubic',
    ],
  )
  config, _ = _follow(config, tmp_path / 'new')
  assert config.preprocessing.image_size == (64, 64)
  assert config.preprocessing.interpolation == 'bicubic'
  assert config.preprocessing.mean == THEIRS['mean']


def test_a_run_that_goes_on_needs_them_no_more(imported, tmp_path):
  workdir = tmp_path / 'run'
  config, _ = _follow(_config(finetune_folder, imported), workdir)
  workdir_lib.claim_workdir(str(workdir), config)
  assert json.loads((workdir / 'config.json').read_text())['preprocessing'] == {
    name: list(value) if isinstance(value, tuple) else value
    for name, value in THEIRS.items()
  }
  again, _ = _follow(_config(finetune_folder, str(tmp_path / 'gone')), workdir)
  assert again.preprocessing == config.preprocessing
  assert again.model == config.model


def test_without_init_from_the_config_is_as_it_is(tmp_path):
  config = _config(image_folder, '')
  same, said = _follow(config, tmp_path)
  assert same.to_dict() == config.to_dict()
  assert not said


def test_what_cannot_be_followed(imported, tmp_path):
  for key in ('optimizer.b1', 'preprocessing.size', 'seed'):
    config = _config(image_folder, imported, follow_init_from=((key, 0),))
    with pytest.raises(
      UserError, match=f"is '{key}'; it must be one of model.name"
    ):
      _follow(config, tmp_path / 'new')
  config = _config(finetune_folder, str(tmp_path / 'nothing'))
  with pytest.raises(UserError, match='nothing does not exist'):
    _follow(config, tmp_path / 'new')


@proves('follow_init_from')
def test_the_key_names_what_is_followed(imported, tmp_path):
  for keys in ((), ('preprocessing.mean',), ('preprocessing.image_size',)):
    config = base.get_config()
    config.init_from = imported
    config.follow_init_from = tuple(
      (key, config.preprocessing[key.partition('.')[2]]) for key in keys
    )
    registry.record(config)
    config, _ = _follow(config, tmp_path / 'new')
    for key, size in (('mean', 3), ('image_size', 2)):
      followed = config.preprocessing[key] == THEIRS[key]
      assert followed == (f'preprocessing.{key}' in keys)
      assert len(config.preprocessing[key]) == size


def test_the_rates_are_those_to_finetune_with():
  trained, finetuned = image_folder.get_config(), finetune_folder.get_config()
  assert finetuned.init_from
  assert finetuned.optimizer.layer_decay < trained.optimizer.layer_decay
  assert (
    finetuned.schedule.peak_learning_rate < trained.schedule.peak_learning_rate
  )

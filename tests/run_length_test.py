"""Runs made shorter for trying, and finished runs made longer."""

import importlib
import json

import jax
import numpy as np
import pytest

import train
from coatnet_jax.data.sources import SyntheticSource
from coatnet_jax.errors import UserError
from coatnet_jax.models import variants
from coatnet_jax.run import create_run
from coatnet_jax.training import workdir as workdir_lib
from tests.quick_configs import create_synthetic_config

# As many as the quick start has, none of which is read here.
NOISE = (
  SyntheticSource(
    'any', num_examples=10_000, num_classes=10, image_size=(28, 28), seed=0
  ),
) * 2


@pytest.mark.parametrize(
  ('config', 'num_steps', 'note'),
  [
    ('quickstart', 1000, ()),
    ('quickstart', 40, ('shortened from 78 steps to 8,',)),
    ('quickstart', 3, ('left out,',)),
    ('quickstart', 1, ('left out,',)),
    ('layout_study', 100, ('shortened from 78 steps to 20,',)),
    ('emoji', 17, ('shortened from 156 steps to 3,',)),
    ('image_folder', 5, ('shortened from 312 steps to 1,',)),
  ],
)
def test_a_config_for_trying_can_be_shortened(config, num_steps, note):
  """By one key, as people do it; what gives way is said."""
  config = importlib.import_module(f'configs.{config}').get_config()
  config.training.num_steps = num_steps
  config.training.num_epochs = 0.0
  run = create_run(config, sources=NOISE)
  assert run.training.num_steps == num_steps
  assert len(run.notes) == len(note)
  for text, line in zip(note, run.notes):
    assert f'warm-up {text}' in line
    assert line in run.describe()


@pytest.mark.parametrize('name', ['coatnet_0', 'coatnet_2', 'coatnet_4'])
def test_a_recipe_of_the_paper_does_not_change_by_itself(name):
  config = importlib.import_module(f'configs.{name}').get_config()
  config.training.num_epochs = 0.0
  config.training.num_steps = 10
  with pytest.raises(UserError) as error:
    create_run(config, sources=NOISE)
  for key in ('warmup_steps', 'warmup_epochs', 'max_warmup_fraction'):
    assert f'config.schedule.{key}' in str(error.value)


def _config(num_steps, decay='constant'):
  return create_synthetic_config(
    (8, 8),
    4,
    {
      'model.name': 'one_block',
      'schedule.decay': decay,
      'training.num_steps': num_steps,
      'training.global_batch_size': 16,
    },
  )


@pytest.mark.slow
@pytest.mark.rotating
def test_a_finished_run_made_longer_is_the_longer_run(
  tmp_path, capsys, monkeypatch
):
  """Bit for bit where the rates of both are the same."""
  one_block = variants.Variant(
    stem=variants.StemOptions(widths=(4,)),
    stages=(variants.Stage((variants.BlockGroup('mbconv', 1, 4),)),),
  )
  monkeypatch.setitem(variants.VARIANTS, 'one_block', one_block)
  whole = train.train_and_evaluate(_config(3), str(tmp_path / 'whole'))
  workdir = tmp_path / 'run'
  train.train_and_evaluate(_config(1), str(workdir))
  first = json.loads((workdir / 'summary.json').read_text())
  capsys.readouterr()
  longer = train.train_and_evaluate(_config(3), str(workdir))
  said = capsys.readouterr().out
  assert 'the finished run of 1 steps is resumed to step 3' in said
  jax.tree.map(np.testing.assert_array_equal, longer.variables, whole.variables)
  assert int(longer.step) == 3
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['steps'] == 3
  kept = json.loads((workdir / 'summary_to_step_1.json').read_text())
  assert kept == first
  kept = json.loads((workdir / 'config_to_step_1.json').read_text())
  assert kept['training']['num_steps'] == 1


@pytest.mark.parametrize(
  ('taken', 'num_steps', 'other', 'is_longer'),
  [
    (10, 20, {}, True),
    (10, 11, {}, True),
    (10, 5, {}, False),
    (0, 20, {}, False),
    (10, 20, {'optimizer.b1': 0.8}, False),
    (10, 20, {'schedule.peak_learning_rate': 1e-4}, False),
  ],
)
def test_what_may_differ_in_a_longer_run(
  tmp_path, taken, num_steps, other, is_longer
):
  """Its length, once it is finished, and nothing else."""
  workdir_lib.claim_workdir(str(tmp_path), _config(10), 10)
  if taken:
    (tmp_path / 'summary.json').write_text(json.dumps({'steps': taken}))
  config = _config(num_steps)
  config.update_from_flattened_dict(other)
  before = (tmp_path / 'config.json').read_text()
  if is_longer:
    assert workdir_lib.claim_workdir(str(tmp_path), config, num_steps) == taken
    assert not (tmp_path / 'summary.json').exists()
    assert (tmp_path / 'config_to_step_10.json').read_text() == before
    return
  with pytest.raises(UserError, match='holds a run with another config') as e:
    workdir_lib.claim_workdir(str(tmp_path), config, num_steps)
  assert ('can be made longer' in str(e.value)) == (not other)
  assert (tmp_path / 'config.json').read_text() == before
  assert (tmp_path / 'summary.json').exists() == bool(taken)

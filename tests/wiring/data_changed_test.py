"""A run is resumed on its own data only."""

import pytest

import train
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import write_folder
from tests.quick_configs import create_quick_config
from tests.wiring.registry import proves, record


@pytest.mark.usefixtures('tiny_variant')
@proves('data.changed')
def test_a_run_is_not_resumed_on_other_pictures(tmp_path, capsys):
  folder = write_folder(tmp_path / 'pictures', train=8, validation=8)
  config = create_quick_config(
    {
      'data.source': 'folder',
      'data.data_dir': str(folder),
      'data.train_split': 'train',
      'data.eval_split': 'validation',
      'training.num_steps': 2,
      'training.global_batch_size': 4,
      'evaluation.global_batch_size': 4,
    }
  )
  workdir = str(tmp_path / 'run')
  train.train_and_evaluate(config, workdir)
  config.training.num_steps = 3
  with (folder / 'train' / 'a' / '0.jpg').open('ab') as file:
    file.write(b'\0')
  record(config)
  with pytest.raises(UserError, match='training images have other names'):
    train.train_and_evaluate(config, workdir)
  config.data.changed = 'accept'
  record(config)
  capsys.readouterr()
  train.train_and_evaluate(config, workdir)
  said = capsys.readouterr().out
  assert 'changed     the files of the training images have other' in said
  assert 'Resuming from the checkpoint of step 2' in said
  # From then on it is a run on the new ones.
  config.data.changed = 'refuse'
  train.train_and_evaluate(config, workdir)

"""A run is resumed on its own data only."""

import pytest

import train
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import jpeg
from tests.quick_configs import create_quick_config
from tests.wiring.registry import proves, record


@pytest.mark.usefixtures('tiny_variant')
@proves('data.changed')
def test_a_run_is_not_resumed_on_other_pictures(tmp_path, capsys):
  folder = tmp_path / 'pictures'
  for split in ('train', 'validation'):
    for index in range(8):
      path = folder / split / 'abcd'[index % 4] / f'{index}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(jpeg(index, 32))
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

import json

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import workdir as workdir_lib
from configs import quickstart


def test_claims_a_new_workdir_and_its_own_again(tmp_path):
  workdir = tmp_path / 'a' / 'b'
  config = quickstart.get_config()
  workdir_lib.claim_workdir(str(workdir), config)
  saved = json.loads((workdir / 'config.json').read_text())
  assert saved['model']['name'] == config.model.name
  workdir_lib.claim_workdir(str(workdir), quickstart.get_config())


def test_a_file_is_no_workdir(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='is a file; give a directory'):
    workdir_lib.resolve_workdir(tmp_path / 'file')
  for name in ('', 'new', 'new/deeper'):
    assert workdir_lib.resolve_workdir(tmp_path / name).as_posix() == str(
      tmp_path / name
    )


def test_refuses_another_run_and_shows_the_difference(tmp_path):
  config = quickstart.get_config()
  workdir_lib.claim_workdir(str(tmp_path), config)
  config.optimizer.weight_decay = 0.25
  config.preprocessing.image_size = (56, 56)
  with pytest.raises(UserError) as error:
    workdir_lib.claim_workdir(str(tmp_path), config)
  before = quickstart.get_config()
  assert str(error.value).splitlines()[1:] == [
    '  config.optimizer.weight_decay:'
    f' {before.optimizer.weight_decay} before, 0.25 now',
    '  config.preprocessing.image_size:'
    f' {list(before.preprocessing.image_size)} before, [56, 56] now',
  ]
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['optimizer']['weight_decay'] == before.optimizer.weight_decay


def test_what_does_not_change_training_may_change(tmp_path):
  workdir_lib.claim_workdir(str(tmp_path), quickstart.get_config())
  config = quickstart.get_config()
  config.logging.every_steps = 7
  config.data.num_workers = 3
  config.data.data_dir = '/elsewhere'
  config.checkpoint.max_to_keep = 9
  config.sharding.fsdp = 2
  workdir_lib.claim_workdir(str(tmp_path), config)
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['logging']['every_steps'] == 7


def test_data_that_are_the_data_set_are_no_detail(tmp_path):
  workdir_lib.claim_workdir(str(tmp_path), quickstart.get_config())
  config = quickstart.get_config()
  config.data.name = 'fashion_mnist'
  with pytest.raises(UserError, match=r'data\.name: fashion_mnist_12k before'):
    workdir_lib.claim_workdir(str(tmp_path), config)


def _claim_without_keys(workdir, config, *keys):
  """Claims a workdir for a run of a time that had no such keys."""
  saved = json.loads(workdir_lib.config_to_json(config))
  for section, key in keys:
    del saved[section][key]
  (workdir / 'config.json').write_text(json.dumps(saved))


RANDAUGMENT_KEYS = (
  ('augmentation', 'randaugment_probability'),
  ('augmentation', 'randaugment_scale'),
)


def test_a_run_from_before_a_key_goes_on_as_it_was(tmp_path):
  config = quickstart.get_config()
  _claim_without_keys(
    tmp_path, config, *RANDAUGMENT_KEYS, ('training', 'ema_warmup')
  )
  workdir_lib.claim_workdir(str(tmp_path), config)
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert saved['augmentation']['randaugment_scale'] == 'timm'


def test_a_run_from_before_a_key_does_not_go_on_otherwise(tmp_path):
  config = quickstart.get_config()
  config.augmentation.randaugment_layers = 2
  config.augmentation.randaugment_probability = 0.5
  config.training.ema_warmup = False
  _claim_without_keys(
    tmp_path, config, *RANDAUGMENT_KEYS, ('training', 'ema_warmup')
  )
  with pytest.raises(UserError) as error:
    workdir_lib.claim_workdir(str(tmp_path), config)
  assert str(error.value).splitlines()[1:] == [
    '  config.augmentation.randaugment_probability: 1.0 before, 0.5 now',
    '  config.augmentation.randaugment_scale: (not there) before, timm now',
    '  config.training.ema_warmup: True before, False now',
  ]


@pytest.mark.parametrize('init_from', ['other', './other', 'a/../other'])
def test_a_relative_path_of_an_older_run_is_the_one_it_was(
  tmp_path, monkeypatch, init_from
):
  monkeypatch.chdir(tmp_path)
  config = quickstart.get_config()
  config.init_from = init_from
  _claim_without_keys(tmp_path, config)
  config.init_from = str(tmp_path / 'other')
  workdir_lib.claim_workdir(str(tmp_path), config)
  config.init_from = str(tmp_path / 'third')
  with pytest.raises(
    UserError, match=r'  config.init_from: .+/other before, .+/third'
  ):
    workdir_lib.claim_workdir(str(tmp_path), config)


def test_unwritable_workdir(tmp_path):
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(UserError, match='file/run cannot be written: Not a dir'):
    workdir_lib.claim_workdir(str(file / 'run'), quickstart.get_config())


def test_damaged_config(tmp_path):
  (tmp_path / 'config.json').write_text('{"mod')
  with pytest.raises(UserError, match=r'config\.json is no JSON'):
    workdir_lib.claim_workdir(str(tmp_path), quickstart.get_config())


def test_config_hash_is_that_of_the_content():
  config = quickstart.get_config()
  first = workdir_lib.compute_config_hash(config)
  assert first == workdir_lib.compute_config_hash(quickstart.get_config())
  config.seed += 1
  assert workdir_lib.compute_config_hash(config) != first

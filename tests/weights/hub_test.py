"""Weights by name, from a stand-in of the hub: one that is well, and others."""

import pathlib
import sys

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants

import coatnet_jax
from coatnet_jax.errors import UserError
from coatnet_jax.weights.hub import locate_weights
from tests.weights.hub_stand_in import COMMIT, serve

NAME = 'timm/test_coatnet.r160_in1k'
CONTENT = (
  pathlib.Path(__file__).parents[1] / 'golden' / 'test_coatnet.safetensors'
).read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache, and no time to wait."""
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(constants, 'HF_HUB_DOWNLOAD_TIMEOUT', 0.2)
  monkeypatch.setattr('time.sleep', lambda seconds: None)
  monkeypatch.chdir(tmp_path)
  return tmp_path / 'cache'


@pytest.fixture
def hub(cache, monkeypatch):
  """A hub that is well, until a test says otherwise."""
  with serve(NAME, CONTENT) as server:
    monkeypatch.setenv('HF_ENDPOINT', server.address)
    yield server


def _list_files(cache):
  """Returns what lies in the cache of weights, whole or not."""
  return [
    path
    for path in cache.rglob('*')
    if path.is_file() and path.stat().st_size > 100_000
  ]


def _refuse(name, *parts):
  """Checks that a name is refused in one sentence with these parts."""
  with pytest.raises(UserError) as info:
    locate_weights(name)
  message = str(info.value)
  assert '\n' not in message
  assert name.removeprefix('hf-hub:') in message
  for part in parts:
    assert part in message
  return message


def test_weights_are_fetched_once(hub, cache, capfd):
  path = locate_weights(NAME)
  assert path.read_bytes() == CONTENT
  assert path.is_relative_to(cache)
  assert hub.asked == ['HEAD', 'GET']
  assert locate_weights(NAME) == path
  assert locate_weights(f'hf-hub:{NAME}@{COMMIT}') == path
  assert hub.asked.count('GET') == 1
  # The terminal is not written to.
  assert capfd.readouterr() == ('', '')


def test_a_model_gets_its_weights_by_name(hub):
  model = coatnet_jax.create_model('test_coatnet', num_classes=1000)
  variables = coatnet_jax.load_weights(model, NAME, report=pytest.fail)
  np.testing.assert_array_equal(
    variables['params']['head_logits']['bias'],
    safetensors.numpy.load(CONTENT)['head.fc.bias'],
  )


def test_what_is_in_the_cache_needs_no_hub(hub, monkeypatch):
  path = locate_weights(NAME)
  hub.ails = 'error'
  assert locate_weights(NAME) == path
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert locate_weights(NAME) == path


def test_offline_without_a_cache(hub, monkeypatch):
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  _refuse(NAME, 'HF_HUB_OFFLINE', 'is not in the cache', 'give its path')
  assert not hub.asked


def test_no_network(cache, monkeypatch):
  monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
  _refuse(NAME, 'http://127.0.0.1:9 cannot be reached', 'try again')


@pytest.mark.parametrize(
  ('ails', 'parts'),
  [
    ('error', ('answers with error 500', 'try again later')),
    ('stall', ('could not be fetched whole', 'nothing of it is used')),
    ('cut', ('could not be fetched whole', '500', 'try again')),
    ('other_size', ('could not be fetched whole', 'Consistency check failed')),
    ('other_content', ('is damaged', 'SHA-256', 'try again')),
    ('gated', ('for those alone whom its owner lets in', 'hf auth login')),
    ('no_file', ('has no model.safetensors', 'give its path')),
  ],
)
def test_what_ails_the_hub_is_said_and_nothing_half_is_used(
  ails, parts, hub, cache
):
  hub.ails = ails
  _refuse(NAME, hub.address * (ails != 'other_content'), *parts)
  assert not _list_files(cache)
  hub.ails = ''
  assert locate_weights(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize('ails', ['slow', 'cut_once'])
def test_what_is_slow_or_broken_off_once_is_fetched_whole(ails, hub):
  hub.ails = ails
  assert locate_weights(NAME).read_bytes() == CONTENT


def test_a_file_that_is_damaged_in_the_cache_is_fetched_again(hub, cache):
  path = locate_weights(NAME)
  blob = path.resolve()
  blob.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
  _refuse(NAME, 'is damaged', 'taken out of the cache')
  assert not _list_files(cache)
  assert locate_weights(NAME).read_bytes() == CONTENT


def test_a_cache_without_links_is_compared_with_what_the_hub_says(
  hub, cache, monkeypatch
):
  monkeypatch.setattr(constants, 'HF_HUB_DISABLE_SYMLINKS', True)
  path = locate_weights(NAME)
  assert path.read_bytes() == CONTENT
  assert not path.is_symlink()
  assert locate_weights(NAME) == path
  damaged = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
  path.write_bytes(damaged)
  # Without a network there is nothing to compare with.
  hub.ails = 'error'
  assert locate_weights(NAME) == path
  hub.ails = ''
  _refuse(NAME, 'is damaged', 'taken out of the cache')
  assert not _list_files(cache)
  assert locate_weights(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
  ('name', 'parts'),
  [
    (
      'timm/coatnet_0_rw_224.sw_in1q',
      ('There is no', 'did you mean timm/coatnet_0_rw_224.sw_in1k?'),
    ),
    ('hf-hub:me/nothing', ('There is no', 'private')),
    (f'{NAME}@v2', ('is no revision',)),
    ('hf-hub:me/a--b', ('is no name on the Hugging Face Hub',)),
  ],
)
def test_a_name_that_is_not_there(name, parts, hub):
  _refuse(name, *parts)


def test_a_missing_package_says_what_to_install(cache, monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  _refuse(
    NAME,
    'pip install huggingface_hub',
    f'https://huggingface.co/{NAME}/resolve/main/model.safetensors',
  )


def test_a_path_is_no_name(cache, tmp_path, monkeypatch):
  assert locate_weights('weights.safetensors') == (
    tmp_path / 'weights.safetensors'
  )
  (tmp_path / 'timm').mkdir()
  (tmp_path / 'timm' / 'mine').write_bytes(b'')
  assert locate_weights('timm/mine') == tmp_path / 'timm' / 'mine'

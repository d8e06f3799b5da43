"""A run's model on a stand-in of the hub, and back; and what is refused."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, constants

from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from coatnet_jax.init_from import open_start
from coatnet_jax.publishing.folder import write_folder
from coatnet_jax.publishing.model_card import escape_markdown
from coatnet_jax.publishing.scrubbing import scrub_config
from tests.weights.hub_stand_in import serve
from tools import evaluate, hub, predict

NAME = 'me/fashion'
TOKEN = 'hf_secretsecret'


@pytest.fixture
def server(tmp_path, monkeypatch):
  """A hub without the repository, and somebody who is logged in."""
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
  monkeypatch.setattr('time.sleep', lambda seconds: None)
  monkeypatch.setenv('HF_TOKEN', TOKEN)
  with serve(NAME, b'') as stand_in:
    stand_in.is_there = False
    monkeypatch.setenv('HF_ENDPOINT', stand_in.address)
    yield stand_in


@pytest.fixture(scope='session')
def published(workdir, tmp_path_factory):
  """The files of the tiny run; not to be changed."""
  out = tmp_path_factory.mktemp('published') / 'files'
  assert _push(workdir, f'--dry_run={out}', '--license=apache-2.0') == 0
  return out


def _push(workdir, *arguments):
  return hub.main(
    ['push', f'--checkpoint={workdir}', f'--repo={NAME}', *arguments]
  )


def _pull(out, name=NAME):
  return hub.main(['pull', f'--repo={name}', f'--out={out}'])


@pytest.mark.slow
@pytest.mark.rotating
def test_there_and_back(server, workdir, best, image_dir, tmp_path, capsys):
  assert _push(workdir, '--private') == 0
  assert server.is_private
  # All in one commit, so that there is never half of it.
  assert [sorted(names) for names in server.commits] == [
    ['README.md', 'config.json', 'model.safetensors']
  ]
  assert capsys.readouterr().out.strip() == f'{server.address}/{NAME}'

  out = tmp_path / 'pulled'
  assert _pull(out) == 0
  assert sorted(os.listdir(out)) == [
    *('README.md', 'config.json', 'model.safetensors'),
  ]
  ours, theirs = load_trained_model(workdir), load_trained_model(out)
  jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
  assert theirs.step == ours.step == best['step']
  assert theirs.class_names == ours.class_names
  assert theirs.preprocessing == ours.preprocessing
  assert theirs.loss == ours.loss
  capsys.readouterr()
  data = f'--data.data_dir={ours.config.data.data_dir}'
  assert evaluate.main([f'--checkpoint={out}', '--json', data]) == 0
  assert json.loads(capsys.readouterr().out)['top1'] == best['top1']
  picture = str(min(image_dir.iterdir()))
  assert predict.main([f'--checkpoint={out}', '--json', picture]) == 0
  assert len(json.loads(capsys.readouterr().out)[0]['predictions']) == 5
  for source in (str(out), f'hf-hub:{NAME}'):
    start = open_start(source, 'coatnet_mini')
    assert start.class_names == ours.class_names


def test_nothing_of_the_machine_is_in_it(workdir, tmp_path, monkeypatch):
  monkeypatch.setenv('HF_TOKEN', TOKEN)
  trained = load_trained_model(workdir)
  secrets = {
    'data.data_dir': 'somewhere/pictures',
    'data.name': '/mnt/secret/data',
    'data.group_pattern': '~/hidden',
    'init_from': str(workdir),
    'compiled_train_step': 'gs://bucket/step',
  }
  config = trained.config.copy_and_resolve_references()
  config.update_from_flattened_dict(secrets)
  write_folder(
    dataclasses.replace(trained, config=config),
    tmp_path,
    repository=NAME,
    licence=None,
  )
  machine = (TOKEN, str(tmp_path), os.getcwd(), os.path.expanduser('~') + '/')
  files = list(tmp_path.iterdir())
  assert len(files) == 3
  for file in files:
    content = file.read_bytes()
    for secret in (*secrets.values(), *machine):
      assert secret.encode() not in content, (file, secret)
  section = json.loads((tmp_path / 'config.json').read_text())['coatnet_jax']
  assert section['metadata']['config']['data']['data_dir'] == ''
  assert section['metadata']['config']['seed'] == config.seed
  # What a run started from may be said where others can find it.
  assert scrub_config({'init_from': 'hf-hub:me/cats'}) == {
    'init_from': 'hf-hub:me/cats'
  }


def test_the_card_says_what_is_known(published, best):
  card = ModelCard.load(published / 'README.md')
  data = card.data
  assert data.license == 'apache-2.0'
  assert data.library_name == 'coatnet_jax'
  assert data.pipeline_tag == 'image-classification'
  results = {r.metric_type: r.metric_value for r in data.eval_results}
  assert results['accuracy'] == pytest.approx(best['top1'])
  mean = results['balanced_accuracy']
  assert mean == pytest.approx(best['mean_class_accuracy'])
  assert f'| {best["top1"]:.4f} |' in card.text
  assert 'on 100 pictures' in card.text
  assert 'T-shirt' in card.text
  assert 'timm.create_model' not in card.text
  head = (published / 'README.md').read_text().split('---')[1]
  assert 'datasets' not in yaml.safe_load(head)


def test_names_of_classes_do_nothing_in_markdown():
  assert escape_markdown('a|b') == r'a\|b'
  assert escape_markdown('<script>') == r'\<script\>'
  assert escape_markdown('x\n# y') == r'x\n\# y'.replace(
    r'\n', escape_markdown('\n')
  )
  assert '\x1b' not in escape_markdown('\x1b[2J')


@pytest.mark.parametrize(
  ('ails', 'message'),
  [
    ('unauthorized', 'refuses .*error 401.* `hf auth login`'),
    ('forbidden', 'refuses .*error 403'),
    ('error', 'error 500 .* try again later'),
    ('upload_error', 'error 400 .*nothing of this push'),
  ],
)
def test_a_hub_that_refuses(ails, message, server, workdir, capfd):
  server.ails = ails
  with pytest.raises(UserError, match=message) as info:
    _push(workdir)
  assert TOKEN not in str(info.value)
  assert '\n' not in str(info.value)
  assert not server.commits
  assert TOKEN not in ''.join(capfd.readouterr())


def test_what_is_there_is_replaced_only_when_asked(server, workdir):
  server.is_there, server.files = True, {'README.md': b'mine'}
  with pytest.raises(UserError, match='is there, and has files'):
    _push(workdir)
  with pytest.raises(UserError, match='is there and public'):
    _push(workdir, '--private')
  assert server.files == {'README.md': b'mine'}
  assert _push(workdir, '--update') == 0
  assert server.files['README.md'].startswith(b'---')


def test_nobody_is_logged_in(server, workdir, monkeypatch):
  monkeypatch.delenv('HF_TOKEN')
  monkeypatch.setattr('huggingface_hub.get_token', lambda: None)
  with pytest.raises(UserError, match='log in first'):
    _push(workdir)
  assert not server.commits


def test_what_cannot_be_pulled(server, workdir, tmp_path):
  out = tmp_path / 'out'
  with pytest.raises(UserError, match='There is no me/fashion'):
    _pull(out)
  server.is_there = True
  with pytest.raises(UserError, match='no model that this project has pushed'):
    _pull(out)
  _push(workdir)
  server.ails = 'other_content'
  with pytest.raises(UserError, match='is damaged'):
    _pull(out)
  server.ails = ''
  assert not out.exists()
  with pytest.raises(UserError, match='must be OWNER/NAME'):
    _pull(out, 'nothing')
  _pull(out)
  with pytest.raises(UserError, match='exists already'):
    _pull(out)


def test_damaged_weights_are_noticed(published, tmp_path):
  copy = tmp_path / 'copy'
  copy.mkdir()
  for file in published.iterdir():
    (copy / file.name).write_bytes(file.read_bytes())
  weights = copy / 'model.safetensors'
  content = bytearray(weights.read_bytes())
  content[-1] ^= 1
  weights.write_bytes(content)
  with pytest.raises(UserError, match='is damaged: its SHA-256'):
    load_trained_model(copy)
  (copy / 'config.json').write_text('{"architecture": "resnet18"}')
  with pytest.raises(UserError, match='of another project'):
    load_trained_model(copy)
  (copy / 'config.json').write_text('{"coatnet_jax": {"step": 1}}')
  with pytest.raises(UserError, match='cannot be read'):
    load_trained_model(copy)

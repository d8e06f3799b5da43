import json

import pytest

from coatnet_jax.errors import UserError
from tools import variants


def test_json(run_tool):
  process = run_tool('variants', 'coatnet_min?', '--json')
  assert (process.returncode, process.stderr) == (0, '')
  (described,) = json.loads(process.stdout)
  multiply_adds = described.pop('multiply_adds')
  assert described == {
    'name': 'coatnet_mini',
    'image_size': [28, 28],
    'parameters': 178_810 + 990 * (64 + 1),  # 1000 classes instead of 10.
    'paper': None,
    'weights': [],
  }
  assert list(multiply_adds) == ['28', '224', '384', '512']
  assert multiply_adds['28'] * 64 < multiply_adds['224']


@pytest.fixture
def one_size(monkeypatch):
  """Counts at one size only, to be quick."""
  monkeypatch.setattr(variants, 'IMAGE_SIZES', (224,))


def test_the_paper_and_the_weights_stand_beside_ours(one_size, capsys):
  assert variants.main(['coatnet_0']) == 0
  header, row = capsys.readouterr().out.splitlines()
  assert header.endswith('G at 224  weights')
  assert row.split() == ['coatnet_0', '25.04M', '(25M)', '224', '4.14', '(4.2)']
  assert header.index('weights') - len('  ') == len(row)


def test_weights_are_listed_by_tag(one_size, monkeypatch, capsys):
  published = variants.list_published_weights('coatnet_2_rw_224')
  monkeypatch.setattr(
    variants, 'list_published_weights', lambda name: published
  )
  assert variants.main(['coatnet_mini', '--markdown']) == 0
  header, rule, row = capsys.readouterr().out.splitlines()
  assert header.count('|') == rule.count('|') == row.count('|') == 7
  tags = [f'coatnet_2_rw_224.sw_in12k{rest}' for rest in ('', '_ft_in1k 86.58')]
  assert row.endswith(f'| {", ".join(tags)} |')


def test_a_size_that_does_not_fit_has_no_number(monkeypatch, capsys):
  monkeypatch.setattr(variants, 'IMAGE_SIZES', (30,))
  assert variants.main(['coatnet_mini']) == 0
  row = capsys.readouterr().out.splitlines()[-1].split()
  assert row == ['coatnet_mini', '0.24M', '28', '0.01', '-']


def test_nothing_matches():
  with pytest.raises(UserError, match=r'matches no variant; .* coatnet_0, '):
    variants.main(['resnet*'])


@pytest.mark.parametrize(
  ('size', 'text'), [((224, 224), '224'), ((224, 384), '224x384')]
)
def test_sizes_are_height_by_width(size, text):
  assert variants._format_size(size) == text


def test_published_weights_are_listed_with_where_they_are(capsys):
  assert variants.main(['--weights']) == 0
  header, *rows = capsys.readouterr().out.splitlines()
  assert len(rows) == 18
  assert header.split()[:2] == ['weights', 'params']
  (row,) = [row for row in rows if row.startswith('timm/coatnet_0_rw_224.')]
  assert row.split() == [
    'timm/coatnet_0_rw_224.sw_in1k',
    *('27.44M', '224', '1,000', '82.40', 'Apache-2.0'),
    'https://huggingface.co/timm/coatnet_0_rw_224.sw_in1k',
  ]
  assert row.index('82.40') + 5 == header.index('top-1') + 5
  assert variants.main(['*keras_cv', '--weights', '--markdown']) == 0
  header, rule, *rows = capsys.readouterr().out.splitlines()
  assert header.count('|') == rule.count('|') == 8
  assert len(rows) == 2
  assert '| 80.48 | MIT | https://github.com/' in rows[0]


def test_published_weights_as_json(capsys):
  assert variants.main(['coatnet_2_rw*', '--weights', '--json']) == 0
  first, second = json.loads(capsys.readouterr().out)
  assert first['source'] == 'timm/coatnet_2_rw_224.sw_in12k'
  assert first['top1'] is None
  assert second['num_classes'] == 1000
  assert second['licence'] == 'Apache-2.0'

"""The study of a rare class: its pictures, its commands and its table."""

import json
import pathlib

import pytest

from benchmarks import imbalance, study


@pytest.fixture(name='commands')
def fixture_commands(monkeypatch):
  """Stands in for training and evaluation; what they were asked for."""
  commands = []

  def run_python(*arguments):
    commands.append(arguments)
    [path] = [
      word.partition('=')[2]
      for word in arguments
      if word.startswith(('--workdir=', '--results='))
    ]
    if arguments[0] == 'main.py':
      pathlib.Path(path).mkdir(parents=True)
      (pathlib.Path(path) / 'summary.json').write_text('{"steps": 7}')
    else:
      seed = int(pathlib.Path(path).parent.name[-1])
      classes = [
        {'class': name, 'top1': 0.5 + 0.1 * seed, 'count': 2}
        for name in imbalance.CLASSES
      ]
      found = {'run': {}, 'evaluations': [{'per_class': classes}]}
      pathlib.Path(f'{path}.json').write_text(json.dumps(found))
    return ''

  monkeypatch.setattr(study, 'run_python', run_python)
  monkeypatch.setattr(imbalance, 'run_python', run_python)
  return commands


@pytest.mark.slow
def test_every_choice_is_trained_with_every_seed(commands, tmp_path, capsys):
  arguments = [f'--directory={tmp_path}', '--seeds=2']
  imbalance.main(arguments)
  trained = [words for words in commands if words[0] == 'main.py']
  assert len(trained) == 2 * len(imbalance.CHOICES)
  balanced = [w for w in trained if '--config.data.sampling=balanced' in w]
  assert len(balanced) == 2
  (line,) = [
    line for line in capsys.readouterr().out.splitlines() if 'balanced' in line
  ]
  assert line == '| balanced sampling ' + '| 55.0 ± 7.1 ' * 4 + '|'
  # Pictures of a class are those of the data set, and as many as it says.
  counts = {
    name: len(list((tmp_path / 'pictures' / 'train' / name).glob('*.png')))
    for name in ('Pullover', 'Shirt', 'T-shirt top')
  }
  assert counts == {'Pullover': 140, 'Shirt': 20, 'T-shirt top': 140}
  evaluated = list((tmp_path / 'pictures' / 'val').rglob('*.png'))
  assert len(evaluated) == 3 * imbalance.NUM_EVALUATED
  # What is there is not done again.
  done = len(commands)
  imbalance.main(arguments)
  assert len(commands) == done

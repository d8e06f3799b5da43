"""Two studies on real pictures, with seeds and spread.

    python -m benchmarks.study layouts --directory=RUNS
    python -m benchmarks.study transfer --directory=RUNS --data_dir=DATA

The first trains every layout of configs/layout_study.py; the second pretrains,
finetunes and trains from scratch by configs/transfer_study.py, and evaluates
frozen features, on the emoji of `python -m tools.prepare_emoji
--output_dir=DATA`. Every run is one of main.py, every figure one of
tools.evaluate; both are kept in RUNS, so that what was broken off is resumed.
Tables are printed in the end, mean and standard deviation over the seeds.
"""

import json
import pathlib
import statistics
import subprocess
import sys

from coatnet_jax.arguments import create_parser
from configs import layout_study

ROOT = pathlib.Path(__file__).parents[1]


def main(arguments: list[str]) -> None:
  """Runs what is missing of a study, and prints its tables.

  Args:
    arguments: after the program's name.
  """
  parser = create_parser('python -m benchmarks.study', __doc__)
  parser.add_argument('study', choices=('layouts', 'transfer'))
  parser.add_argument('--directory', type=pathlib.Path, required=True)
  parser.add_argument('--data_dir', default='', help='has the emoji')
  parser.add_argument('--seeds', type=int, default=3)
  options = parser.parse_args(arguments)
  if options.study == 'transfer' and not options.data_dir:
    parser.error('transfer needs --data_dir')
  directory = options.directory.resolve()
  if options.study == 'layouts':
    study_layouts(directory, range(options.seeds))
  else:
    study_transfer(directory, options.data_dir, range(options.seeds))


def study_layouts(directory: pathlib.Path, seeds: range) -> None:
  """Trains every layout; evaluates it on what it has seen, and on the rest."""
  rows = []
  for layout in layout_study.PHASES:
    figures = {'train': [], 'test': []}
    for seed in seeds:
      workdir = directory / 'layouts' / f'{layout}_{seed}'
      train(f'layout_study.py:{layout}', workdir, seed=seed)
      for split, results in figures.items():
        results += evaluate(workdir, split, f'--data.eval_split={split}')
    parameters = json.loads((workdir / 'summary.json').read_text())
    rows.append(
      (
        f'`{layout}`',
        f'{parameters["num_parameters"]:,}',
        show([result['loss'] for result in figures['train']]),
        show([result['loss'] for result in figures['test']]),
        show([100 * result['top1'] for result in figures['train']], 2),
        show([100 * result['top1'] for result in figures['test']], 2),
      )
    )
  print_table(
    ('layout', 'parameters', 'training loss', 'test loss', 'training top-1')
    + ('test top-1',),
    rows,
  )


def study_transfer(
  directory: pathlib.Path, data_dir: str, seeds: range
) -> None:
  """Pretrains, finetunes at a higher resolution, and trains from scratch."""
  pretrained, results, few_shot = [], {}, []
  for seed in seeds:
    source = directory / 'transfer' / f'pretrain_{seed}'
    data = f'--config.data.data_dir={data_dir}'
    train('transfer_study.py:pretrain', source, data, seed=seed)
    for name in ('emoji_google', 'emoji_twitter'):
      pretrained.append(
        evaluate(source, name, f'--data.name={name}', '--image_size=48,64')
      )
    for phase in ('finetune', 'scratch', 'scratch_long'):
      workdir = directory / 'transfer' / f'{phase}_{seed}'
      init = [f'--config.init_from={source}'] * (phase == 'finetune')
      train(f'transfer_study.py:{phase}', workdir, data, *init, seed=seed)
      results.setdefault(phase, []).extend(evaluate(workdir, 'own'))
    other_artist = ('--data.name=emoji_twitter', '--image_size=64')
    results.setdefault('linear probe', []).extend(
      evaluate(
        *(source, 'linear_probe', '--linear_probe', *other_artist),
        '--data.train_split=train[:10%]',
      )
    )
    few_shot += evaluate(source, 'few_shot', '--fewshot=1,5,10', *other_artist)
  own, other = pretrained[::2], pretrained[1::2]
  print_table(
    ('pretrained, before any other training', '48 px', '64 px'),
    [
      (
        name,
        *(
          show([100 * result[size]['top1'] for result in part], 1)
          for size in (0, 1)
        ),
      )
      for name, part in (('its own artist', own), ('the other', other))
    ],
  )
  print_table(
    ("a tenth of the other artist's, 64 px", 'top-1', 'loss'),
    [
      (
        phase,
        show([100 * result['top1'] for result in part], 1),
        show([result['loss'] for result in part]),
      )
      for phase, part in results.items()
    ],
  )
  print_table(
    ("the other artist's, 64 px, few-shot", 'top-1'),
    [
      (
        f'{shots["shots"]} of each class',
        show([100 * result['shots'][i]['top1'] for result in few_shot], 1),
      )
      for i, shots in enumerate(few_shot[0]['shots'])
    ],
  )


def train(
  config: str, workdir: pathlib.Path, *arguments: str, seed: int
) -> None:
  """Trains one model, unless it is there.

  Args:
    config: file of configs/ and one of its phases.
    workdir: workdir of the run.
    *arguments: more arguments of main.py.
    seed: seed of everything random.

  Raises:
    subprocess.CalledProcessError: main.py ended with an error.
  """
  if (workdir / 'summary.json').exists():
    return
  run_python(
    *('main.py', f'--config=configs/{config}', f'--workdir={workdir}'),
    *(f'--config.seed={seed}', *arguments),
  )


def evaluate(
  workdir: pathlib.Path, name: str, *arguments: str
) -> list[dict[str, float]]:
  """Evaluates the last parameters of a run, unless that was done.

  Args:
    workdir: workdir of the run.
    name: name of the evaluation.
    *arguments: more arguments of tools.evaluate.

  Returns:
    The figures of each evaluation.

  Raises:
    subprocess.CalledProcessError: tools.evaluate ended with an error.
  """
  path = workdir / f'evaluated_{name}.json'
  if not path.exists():
    steps = json.loads((workdir / 'summary.json').read_text())['steps']
    found = run_python(
      *('-m', 'tools.evaluate', '--json', *arguments),
      f'--checkpoint={workdir / "checkpoints" / str(steps)}',
    )
    path.write_text(found)
  found = json.loads(path.read_text())
  return found if isinstance(found, list) else [found]


def run_python(*arguments: str) -> str:
  """Runs Python in the project; returns what it printed.

  Args:
    *arguments: words of the command line after `python`.

  Raises:
    subprocess.CalledProcessError: it ended with an error.
  """
  print('$ python', *arguments, file=sys.stderr, flush=True)
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout


def show(values: list[float], digits: int = 3) -> str:
  """Returns mean and standard deviation of some values, as text."""
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return f'{statistics.mean(values):.{digits}f} ± {spread:.{digits}f}'


def print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
  """Prints a table in Markdown."""
  for row in (titles, ('---',) + ('--:',) * (len(titles) - 1), *rows):
    print(f'| {" | ".join(row)} |')
  print()


if __name__ == '__main__':
  main(sys.argv[1:])

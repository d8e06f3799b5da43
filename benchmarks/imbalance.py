"""What balanced sampling and class weights do for a rare class.

    python -m benchmarks.imbalance --directory=RUNS

Real pictures of Fashion-MNIST, which come with the code, as a folder: 300 to
train on, of pullovers and T-shirts 140 each and of shirts, which look like
both, 20; 600 of the others to evaluate on, 200 of each class. A small model is
trained on them as they are, with balanced sampling, and with class weights, for
some seeds. Every run is one of main.py, every figure one of tools.evaluate,
and what was broken off is resumed. The table in the end has the recall of each
class and its mean, mean and standard deviation over the seeds.
"""

import json
import pathlib
import sys
from collections.abc import Mapping

import cv2
import numpy as np

from benchmarks.study import print_table, run_python, show, train
from coatnet_jax.arguments import create_parser
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.sources import DataOptions, create_source
from configs import quickstart

# class of Fashion-MNIST: pictures to train on, the last one rare; and so many
# of each to evaluate on.
CLASSES = {'Pullover': 140, 'T-shirt/top': 140, 'Shirt': 20}
NUM_EVALUATED = 200
CHOICES = {
  'as they are': (),
  'balanced sampling': ('--config.data.sampling=balanced',),
  'class weights': ('--config.loss.class_weights=inverse',),
}
_SETTINGS = (
  '--config.model.name=coatnet_mini',
  '--config.model.stochastic_depth_rate=0.0',
  '--config.preprocessing.image_size=(28,28)',
  '--config.preprocessing.eval_crop_fraction=1.0',
  '--config.augmentation.crop_area=(0.8,1.0)',
  '--config.augmentation.randaugment_layers=0',
  '--config.mixup.mixup_alpha=0.0',
  '--config.training.num_epochs=0.0',
  '--config.training.num_steps=200',
  '--config.training.global_batch_size=30',
  '--config.evaluation.every_epochs=0.0',
)


def main(arguments: list[str]) -> None:
  """Runs what is missing, and prints the table.

  Args:
    arguments: arguments after the program's name.
  """
  parser = create_parser('python -m benchmarks.imbalance', __doc__)
  parser.add_argument('--directory', type=pathlib.Path, required=True)
  parser.add_argument('--seeds', type=int, default=3)
  options = parser.parse_args(arguments)
  directory = options.directory.resolve()
  folder = directory / 'pictures'
  if not folder.exists():
    write_pictures(folder)
  rows = []
  for number, (choice, words) in enumerate(CHOICES.items()):
    recalls = []
    for seed in range(options.seeds):
      workdir = directory / f'{number}_{seed}'
      data = f'--config.data.data_dir={folder}'
      train('image_folder.py', workdir, *_SETTINGS, data, *words, seed=seed)
      recalls.append(find_recalls(workdir))
    rows.append((choice, *describe(recalls)))
  print_table(('300 pictures', *_list_folders(), 'mean'), rows)


def write_pictures(folder: pathlib.Path) -> None:
  """Writes the pictures as train/<class>/*.png and val/<class>/*.png.

  Args:
    folder: directory to be made, whole or not at all.
  """
  data = DataOptions(**quickstart.get_config().data)
  partial = folder.with_name('pictures.partial')
  for split, counts in (
    ('train', CLASSES),
    ('eval', dict.fromkeys(CLASSES, NUM_EVALUATED)),
  ):
    source = create_source(data, split)
    labels = source.find_labels()
    for name, count in counts.items():
      found = np.flatnonzero(labels == source.class_names.index(name))[:count]
      place = partial / split.replace('eval', 'val') / name.replace('/', ' ')
      place.mkdir(parents=True, exist_ok=True)
      for index in found.tolist():
        image, _ = decode_example(source, index)
        if not cv2.imwrite(str(place / f'{index}.png'), image[..., ::-1]):
          raise OSError(f'{place} cannot be written')
  partial.rename(folder)


def find_recalls(workdir: pathlib.Path) -> dict[str, float]:
  """Returns the recall of each class, 0..1, of a run's last parameters.

  Args:
    workdir: workdir of the run.
  """
  results = workdir / 'results.json'
  if not results.exists():
    steps = json.loads((workdir / 'summary.json').read_text())['steps']
    run_python(
      *('-m', 'tools.evaluate', f'--results={workdir / "results"}'),
      f'--checkpoint={workdir / "checkpoints" / str(steps)}',
    )
  [result] = json.loads(results.read_text())['evaluations']
  return {entry['class']: entry['top1'] for entry in result['per_class']}


def describe(recalls: list[Mapping[str, float]]) -> list[str]:
  """Returns each class's recall in percent, and the mean of all classes.

  >>> describe([{'a': 0.5, 'b': 1.0}, {'a': 0.6, 'b': 1.0}])
  ['55.0 ± 7.1', '100.0 ± 0.0', '77.5 ± 3.5']

  Args:
    recalls: recall by class, 0..1, of each seed.
  """
  columns = [[100 * recall[name] for recall in recalls] for name in recalls[0]]
  means = [100 * float(np.mean(list(recall.values()))) for recall in recalls]
  return [show(column, 1) for column in (*columns, means)]


def _list_folders() -> list[str]:
  """Returns the classes as the columns have them."""
  return sorted(name.replace('/', ' ') for name in CLASSES)


if __name__ == '__main__':
  main(sys.argv[1:])

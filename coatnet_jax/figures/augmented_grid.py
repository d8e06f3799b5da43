"""What training makes of pictures: a config's augmentations as a grid."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coatnet_jax.data.augmentation import (
  AugmentationOptions,
  PreprocessingOptions,
  augment_image,
  crop_for_evaluation,
)
from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_CELL = 110


def draw_augmented_grid(
  pictures: Sequence[tuple[np.ndarray, str]],
  preprocessing: PreprocessingOptions,
  augmentation: AugmentationOptions,
  *,
  num_draws: int,
  seed: int,
  title: str,
) -> 'Figure':
  """Draws a row for each picture: as evaluation sees it, then as training does.

  MixUp is not among it, which mixes what is seen here.

  Args:
    pictures: pictures, [H, W, 3] uint8, and the name of each one's class.
    preprocessing: image size, crop and interpolation.
    augmentation: choices that are drawn from.
    num_draws: number of draws for each picture.
    seed: seed of the draws.
    title: words above the grid.
  """
  rng = np.random.default_rng(seed)
  figure = canvas.create_figure(
    max(_CELL * (num_draws + 1) + 20, 560), 60 + (_CELL + 4) * len(pictures)
  )
  grid = figure.subplots(len(pictures), num_draws + 1, squeeze=False)
  for row, (picture, name) in zip(grid, pictures):
    shown = [crop_for_evaluation(picture, preprocessing)]
    shown += [
      augment_image(picture, rng, preprocessing, augmentation)
      for _ in range(num_draws)
    ]
    for axes, image in zip(row, shown):
      canvas.show_map(axes, image, 0, 255)
    row[0].set_ylabel(canvas.clean(name, 16))
  grid[0, 0].set_title('evaluation')
  for index, axes in enumerate(grid[0, 1:], 1):
    axes.set_title(f'training {index}')
  figure.suptitle(canvas.clean(title))
  return figure

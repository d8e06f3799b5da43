"""The columns of the paper's Table 10 as data, and two recipes of others.

Not a run of its own. `configs/coatnet_2.py` and its siblings choose columns,
add what the table has for one model alone, and name the result: a phase, which
is what comes after the colon in `--config=configs/coatnet_2.py:imagenet21k`.

A column maps keys of `configs/base.py` to values; its rows are in the table's
order, but for those that all finetuning shares. "Table 10" is of arXiv
2106.04803, "ours" is what nobody has stated. `docs/recipes.md` says why. An EMA
of 0.9999 is never in force in the paper's finetuning: `training.ema_warmup` in
`configs/base.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from coatnet_jax.errors import explain_choice
from configs import base

Column = dict[str, Any]

# The row "center crop", True and False. Ours: the paper does not explain it. We
# take it for what evaluation sees: the centre of an image whose short side is
# 32 pixels longer, as in the closest Google code, or the whole image.
_CENTER_CROP = {
  'preprocessing.eval_resize': 'cover',
  'preprocessing.eval_crop_fraction': 224 / (224 + 32),
}
_WHOLE_IMAGE = {
  'preprocessing.eval_resize': 'squash',
  'preprocessing.eval_crop_fraction': 1.0,
}

# Ours: how the machine is used, and what all phases share. The closest Google
# code trains in bfloat16 on TPUs.
_MACHINE = {
  'model.dtype': 'bfloat16',
  'data.num_workers': 16,
  'logging.every_steps': 100,
}

# Table 10: the rows that are the same in all three columns of finetuning.
_FINETUNE = {
  **_WHOLE_IMAGE,
  'loss.kind': 'softmax',
  'loss.label_smoothing': 0.1,
  'training.num_epochs': 30.0,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 5e-5,
  'schedule.min_learning_rate': 5e-5,
  'schedule.warmup_steps': 0,
  'schedule.decay': 'constant',
  'optimizer.weight_decay': 1e-8,
  'optimizer.clip_norm': 1.0,
  'training.ema_decay': 0.9999,
  # Ours.
  'data.name': 'imagenet2012',
  'evaluation.every_epochs': 1.0,
}

# Table 10, "ImageNet-1K": pretraining of CoAtNet-0 to -3.
IMAGENET1K: Column = {
  **_CENTER_CROP,
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 15.0,
  'mixup.mixup_alpha': 0.8,
  'loss.kind': 'softmax',
  'loss.label_smoothing': 0.1,
  'training.num_epochs': 300.0,
  'training.global_batch_size': 4096,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 1e-3,
  'schedule.min_learning_rate': 1e-5,
  'schedule.warmup_steps': 10_000,
  'schedule.decay': 'cosine',
  'optimizer.weight_decay': 0.05,
  'optimizer.clip_norm': 1.0,
  'training.ema_decay': 0.0,
  'preprocessing.image_size': (224, 224),
  # Ours.
  'data.name': 'imagenet2012',
  'evaluation.every_epochs': 10.0,
  'evaluation.global_batch_size': 2048,
}

# Ours: the same on one GPU. The batch is the paper's, so that its learning rate
# and its number of steps stand; it is computed in parts of 64 images, which
# should fit 24 GB for CoAtNet-0. Of the numbers that count one changes:
# BatchNorm's statistics are those of a part. docs/gpu.md has other cards.
IMAGENET1K_ONE_GPU: Column = IMAGENET1K | {
  'training.gradient_accumulation_steps': 64,
  'evaluation.global_batch_size': 512,
}

# Table 10, "ImageNet-1K": finetuning of CoAtNet-0 to -3. -3 has (2, 20).
IMAGENET1K_FINETUNE: Column = {
  **_FINETUNE,
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 15.0,
  'mixup.mixup_alpha': 0.8,
  'training.global_batch_size': 512,
  # Ours.
  'evaluation.global_batch_size': 512,
}

# Table 10, "ImageNet-21K": pretraining of CoAtNet-2 to -4. Two variants of -4
# add RandAugment, one of them 60 epochs.
IMAGENET21K: Column = {
  **_CENTER_CROP,
  'augmentation.randaugment_layers': 0,
  'augmentation.randaugment_magnitude': 0.0,
  'mixup.mixup_alpha': 0.0,
  'loss.kind': 'sigmoid',
  'loss.label_smoothing': 0.0001,
  'training.num_epochs': 90.0,
  'training.global_batch_size': 4096,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 1e-3,
  'schedule.min_learning_rate': 1e-5,
  'schedule.warmup_epochs': 5.0,
  'schedule.decay': 'linear',
  'optimizer.weight_decay': 0.01,
  'optimizer.clip_norm': 1.0,
  'training.ema_decay': 0.0,
  'preprocessing.image_size': (224, 224),
  # Ours: the paper says 12.7 million images, and not which release.
  'data.name': 'imagenet21k_fall11',
  'evaluation.every_epochs': 5.0,
  'evaluation.global_batch_size': 2048,
}

# Table 10, "ImageNet-21K": finetuning of CoAtNet-2 to -4 on ImageNet-1k. Its
# cell of RandAugment spans both phases; as in pretraining, only the two
# variants of -4 have any.
IMAGENET21K_FINETUNE: Column = {
  **_FINETUNE,
  'augmentation.randaugment_layers': 0,
  'augmentation.randaugment_magnitude': 0.0,
  'mixup.mixup_alpha': 0.0,
  'training.global_batch_size': 1024,
  # Ours.
  'evaluation.global_batch_size': 1024,
}

# Table 10, "JFT": pretraining of CoAtNet-3, and -4 and -5 below.
JFT300M: Column = {
  **_CENTER_CROP,
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 5.0,
  'mixup.mixup_alpha': 0.0,
  'loss.kind': 'sigmoid',
  'loss.label_smoothing': 0.0001,
  'training.num_epochs': 14.0,
  'training.global_batch_size': 4096,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 1e-3,
  'schedule.min_learning_rate': 1e-5,
  'schedule.warmup_steps': 20_000,
  'schedule.decay': 'linear',
  'optimizer.weight_decay': 0.01,
  'optimizer.clip_norm': 1.0,
  'training.ema_decay': 0.0,
  'preprocessing.image_size': (224, 224),
  # Ours. The data are Google's own: name yours.
  'data.name': 'jft300m',
  'evaluation.every_epochs': 0.5,
  'evaluation.global_batch_size': 2048,
}

# Table 10, "JFT": pretraining of CoAtNet-4 and -5.
JFT300M_LARGE: Column = JFT300M | {'schedule.peak_learning_rate': 5e-4}

# Table 10, "JFT": finetuning of CoAtNet-3 to -5 on ImageNet-1k.
JFT_FINETUNE: Column = {
  **_FINETUNE,
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 5.0,
  'mixup.mixup_alpha': 0.0,
  'training.global_batch_size': 512,
  # Ours.
  'evaluation.global_batch_size': 512,
}

# Ours: the paper gives no settings for CoAtNet-6 and -7. CoAtNet-5's, on ten
# times the data; how many epochs is each model's.
JFT3B: Column = JFT300M_LARGE | {
  'data.name': 'jft3b',
  'evaluation.every_epochs': 0.05,
}

# Ours: only the last layer is trained, on the features of a pretrained model as
# evaluation has them. Without regularisation and with few augmentations, as
# linear probes are trained (MAE's, arXiv 2111.06377, table 10).
LINEAR_PROBE: Column = {
  **_CENTER_CROP,
  'optimizer.frozen': ('^(?!head_logits/)',),
  'augmentation.randaugment_layers': 0,
  'augmentation.randaugment_magnitude': 0.0,
  'mixup.mixup_alpha': 0.0,
  'loss.kind': 'softmax',
  'loss.label_smoothing': 0.0,
  'training.num_epochs': 10.0,
  'training.global_batch_size': 1024,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 1e-3,
  'schedule.min_learning_rate': 0.0,
  'schedule.decay': 'cosine',
  'optimizer.weight_decay': 0.0,
  'optimizer.clip_norm': 0.0,
  'training.ema_decay': 0.0,
  'preprocessing.image_size': (224, 224),
  'data.name': 'imagenet2012',
  'evaluation.every_epochs': 1.0,
  'evaluation.global_batch_size': 1024,
}

# timm's weights are tagged "sw", a recipe in the style of Swin's (its page on
# hyper-parameters); these are Swin's own numbers (arXiv 2103.14030, A2.1, which
# leaves out repeated augmentation; of erasing, those of its code).
TIMM: Column = {
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 9.0,
  # Swin's code names timm's rand-m9-mstd0.5-inc1.
  'augmentation.randaugment_probability': 0.5,
  'augmentation.randaugment_scale': 'timm',
  'augmentation.random_erasing_probability': 0.25,
  'augmentation.random_erasing_fill': 'noise',
  'augmentation.repeats': 1,
  'mixup.mixup_alpha': 0.8,
  'mixup.cutmix_alpha': 1.0,
  'mixup.cutmix_probability': 0.5,
  'loss.kind': 'softmax',
  'loss.label_smoothing': 0.1,
  'training.num_epochs': 300.0,
  'training.global_batch_size': 1024,
  'optimizer.name': 'adamw',
  'schedule.peak_learning_rate': 1e-3,
  'schedule.min_learning_rate': 1e-5,
  'schedule.warmup_epochs': 20.0,
  'schedule.decay': 'cosine',
  'optimizer.weight_decay': 0.05,
  'optimizer.clip_norm': 5.0,
  'preprocessing.image_size': (224, 224),
  # timm's configurations of these models.
  'preprocessing.mean': (0.5, 0.5, 0.5),
  'preprocessing.std': (0.5, 0.5, 0.5),
  'preprocessing.eval_crop_fraction': 0.95,
  'preprocessing.eval_resize': 'timm',
  # PyTorch's default.
  'model.batch_norm_momentum': 0.9,
  # Ours: timm says that there are averages, and not which.
  'training.ema_decay': 0.9999,
  'data.name': 'imagenet2012',
  'evaluation.every_epochs': 10.0,
  'evaluation.global_batch_size': 1024,
}

# keras_cv_attention_models' run of its CoAtNet-0 at 224 px, 82.79 % top-1: the
# command in its README, and the defaults of its train_script.py.
KERAS_CV: Column = {
  'model.stochastic_depth_rate': 0.1,
  # Its operations are timm's; the command says 15, and they end at 10.
  'augmentation.randaugment_layers': 2,
  'augmentation.randaugment_magnitude': 10.0,
  'augmentation.randaugment_probability': 0.5,
  'augmentation.randaugment_scale': 'timm',
  'mixup.mixup_alpha': 0.1,
  'mixup.cutmix_alpha': 1.0,
  'mixup.cutmix_probability': 0.5,
  'loss.kind': 'sigmoid',
  'loss.label_smoothing': 0.0,
  'training.num_epochs': 305.0,
  'training.global_batch_size': 128,
  'schedule.min_learning_rate': 1e-6,
  'schedule.warmup_epochs': 5.0,
  'schedule.decay': 'cosine',
  # The learning rate is for 512 images; epsilon is TensorFlow Addons'.
  'optimizer.name': 'lamb',
  'schedule.peak_learning_rate': 8e-3 * 128 / 512,
  'optimizer.weight_decay': 0.02,
  'optimizer.eps': 1e-6,
  'optimizer.clip_norm': 1.0,
  'training.ema_decay': 0.0,
  'preprocessing.image_size': (224, 224),
  'preprocessing.eval_crop_fraction': 0.95,
  'preprocessing.eval_resize': 'keras_cv',
  'model.batch_norm_momentum': 0.9,
  # Ours.
  'data.name': 'imagenet2012',
  'evaluation.every_epochs': 5.0,
  'evaluation.global_batch_size': 1024,
}


def drop(stochastic_depth_rate: float) -> Column:
  """Returns the row "stochastic depth rate", which differs by model."""
  return {'model.stochastic_depth_rate': stochastic_depth_rate}


def set_randaugment(layers: int, magnitude: float) -> Column:
  """Returns the row "RandAugment" where a model differs from its column."""
  return {
    'augmentation.randaugment_layers': layers,
    'augmentation.randaugment_magnitude': magnitude,
  }


def finetune(
  pretraining: str, column: Column, sizes: Sequence[int] = (224, 384, 512)
) -> dict[str, Column]:
  """Returns the phases that finetune what another phase has pretrained.

  Args:
    pretraining: column of the other phase.
    column: column of the finetuning.
    sizes: heights and widths in pixels, of a phase each.

  Returns:
    'PRETRAINING_finetune_SIZE' -> its column. Its `init_from` is no path, but
    the name of what belongs there: a run without one stops and shows it.
  """
  return {
    f'{pretraining}_finetune_{size}': column
    | {
      'preprocessing.image_size': (size, size),
      'init_from': f'WORKDIR_OF_{pretraining}',
    }
    for size in sizes
  }


def create_linear_probe(pretraining: str) -> dict[str, Column]:
  """Returns the phase that trains a linear classifier on what another has.

  Args:
    pretraining: column of the other phase.

  Returns:
    'PRETRAINING_linear_probe' -> its column, with `init_from` as in `finetune`.
  """
  start = {'init_from': f'WORKDIR_OF_{pretraining}'}
  return {f'{pretraining}_linear_probe': LINEAR_PROBE | start}


def choose_phase(name: str, phases: Mapping[str, Column], phase: str) -> Column:
  """Returns the column of a phase.

  Args:
    name: name of what has the phases, for people.
    phases: columns by name.
    phase: name of one of them.

  Raises:
    KeyError: there is no such phase; lists those there are.
  """
  if phase not in phases:
    raise KeyError(explain_choice(f'the phase of {name}', phase, phases))
  return phases[phase]


def create_config(
  model: str, phases: Mapping[str, Column], phase: str
) -> ConfigDict:
  """Returns the config of one phase of a model.

  Args:
    model: name of the variant, unless the phase has one of its own.
    phases: columns by name, with what is the model's own.
    phase: name of one of them.

  Raises:
    KeyError: as `choose_phase`.
  """
  column = choose_phase(model, phases, phase)
  config = base.get_config()
  config.update_from_flattened_dict(_MACHINE | {'model.name': model} | column)
  return config

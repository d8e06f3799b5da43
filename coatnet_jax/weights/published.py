"""The trained CoAtNet weights that exist, as data.

The paper's authors published none. Not here: reading the files, which a user
downloads.
"""

import dataclasses
from typing import Any

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedWeights:
  """One file of trained weights, and what images it was trained for.

  The last six fields are those of `PreprocessingOptions`.

  Attributes:
    tag: publisher's name of it.
    variant: name of the variant of ours that it fits.
    num_classes: number of classes: ImageNet-1k's 1000, or the 11821 of
      ImageNet-12k, timm's part of ImageNet-21k.
    millions: millions of parameters, each 4 bytes of the file.
    licence: licence that its publisher gives.
    top1: accuracy in percent on ImageNet-1k's validation images at
      `image_size`; None where the classes are others.
    top1_source: source of `top1`: who measured it.
    url: address of the file.
    image_size: (height, width) that `top1` is for.
    mean: mean of pixels in 0..1, per channel.
    std: standard deviation of pixels in 0..1, per channel.
    eval_crop_fraction: value of `config.preprocessing.eval_crop_fraction`.
    eval_resize: value of `config.preprocessing.eval_resize`.
    interpolation: value of `config.preprocessing.interpolation`.
  """

  tag: str
  variant: str
  num_classes: int
  millions: float
  licence: str
  top1: float | None
  top1_source: str
  url: str
  image_size: tuple[int, int]
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  eval_crop_fraction: float
  eval_resize: str
  interpolation: str

  @property
  def source(self) -> str:
    """What `load_weights` takes: a name on the hub, or the address."""
    return f'timm/{self.tag}' if self.is_on_hub else self.url

  @property
  def is_on_hub(self) -> bool:
    """Whether 'timm/TAG' is a name of it on the Hugging Face Hub."""
    return self.url.startswith('https://huggingface.co/timm/')

  @property
  def preprocessing(self) -> dict[str, Any]:
    """Returns the arguments of `PreprocessingOptions`."""
    names = (
      'image_size',
      'mean',
      'std',
      'eval_crop_fraction',
      'eval_resize',
      'interpolation',
    )
    return {name: getattr(self, name) for name in names}


def _timm(
  tag,
  millions,
  top1=None,
  *,
  size=224,
  mean=_HALF,
  std=_HALF,
  eval_crop_fraction=0.95,
  eval_resize='timm',
):
  """Weights of timm 1.0; its default configurations, its table of results."""
  variant, training = tag.split('.')
  return PublishedWeights(
    tag=tag,
    variant=variant,
    num_classes=11821 if training == 'sw_in12k' else 1000,
    millions=millions,
    licence='Apache-2.0',
    top1=top1,
    top1_source='' if top1 is None else 'timm, results-imagenet.csv',
    url=f'https://huggingface.co/timm/{tag}',
    image_size=(size, size),
    mean=mean,
    std=std,
    eval_crop_fraction=eval_crop_fraction,
    eval_resize=eval_resize,
    interpolation='bicubic',
  )


def _keras_cv(size, millions, top1):
  """Weights of keras_cv_attention_models; its scripts' defaults."""
  tag = f'coatnet0_{size}_imagenet'
  return PublishedWeights(
    tag=tag,
    variant='coatnet_0_keras_cv',
    num_classes=1000,
    millions=millions,
    licence='MIT',
    top1=top1,
    top1_source='keras_cv_attention_models, README',
    url='https://github.com/leondgarse/keras_cv_attention_models/releases/'
    f'download/coatnet/{tag}.h5',
    image_size=(size, size),
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    eval_crop_fraction=0.95,
    eval_resize='keras_cv',
    interpolation='bicubic',
  )


PUBLISHED_WEIGHTS: tuple[PublishedWeights, ...] = (
  _timm('coatnet_nano_rw_224.sw_in1k', 15.14, 81.70, eval_crop_fraction=0.9),
  _timm('coatnet_0_rw_224.sw_in1k', 27.44, 82.40),
  _timm('coatnet_1_rw_224.sw_in1k', 41.72, 83.62),
  _timm('coatnet_2_rw_224.sw_in12k', 84.96),
  _timm('coatnet_2_rw_224.sw_in12k_ft_in1k', 73.87, 86.58),
  _timm('coatnet_3_rw_224.sw_in12k', 181.81),
  _timm(
    'coatnet_bn_0_rw_224.sw_in1k',
    27.44,
    82.39,
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
  ),
  _timm(
    'coatnet_rmlp_nano_rw_224.sw_in1k', 15.15, 82.06, eval_crop_fraction=0.9
  ),
  _timm('coatnet_rmlp_1_rw_224.sw_in1k', 41.69, 83.35),
  _timm('coatnet_rmlp_1_rw2_224.sw_in12k', 50.05),
  _timm('coatnet_rmlp_1_rw2_224.sw_in12k_ft_in1k', 41.72, 84.94),
  _timm('coatnet_rmlp_2_rw_224.sw_in1k', 73.88, 84.61),
  _timm('coatnet_rmlp_2_rw_224.sw_in12k', 84.97),
  _timm('coatnet_rmlp_2_rw_224.sw_in12k_ft_in1k', 73.88, 86.54),
  _timm(
    'coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k',
    73.88,
    87.39,
    size=384,
    eval_crop_fraction=1.0,
    eval_resize='timm_squash',
  ),
  _timm('coatnext_nano_rw_224.sw_in1k', 14.70, 82.00, eval_crop_fraction=0.9),
  _keras_cv(160, 23.26, 80.48),
  _keras_cv(224, 23.28, 82.79),
)


def list_published_weights(variant: str) -> list[PublishedWeights]:
  """Returns the weights that fit a variant; none for most.

  >>> [weights.top1 for weights in list_published_weights('coatnet_0_rw_224')]
  [82.4]
  """
  return [w for w in PUBLISHED_WEIGHTS if w.variant == variant]


def get_published_weights(name: str) -> PublishedWeights | None:
  """Returns the weights of a name on the Hugging Face Hub; None if unknown.

  >>> get_published_weights('timm/coatnet_0_rw_224.sw_in1k').variant
  'coatnet_0_rw_224'

  Args:
    name: name, 'timm/TAG', without a revision.
  """
  found = (w for w in PUBLISHED_WEIGHTS if w.is_on_hub and w.source == name)
  return next(found, None)

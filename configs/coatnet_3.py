r"""CoAtNet-3: the phases of the paper's Table 10, and a linear probe.

The paper reports, at 224, 384 and 512 px, 84.5, 85.8 and 86.0 % with
ImageNet-1k (Table 4); at 384 and 512 px, 87.6 and 87.9 % after ImageNet-21k,
and 88.52 and 88.81 % after JFT-300M (Table 5), with the stride in the depthwise
convolution. This project has not run them. `docs/recipes.md` has all phases,
`configs/recipes.py` their numbers.

    python main.py --config=configs/coatnet_3.py:imagenet21k --workdir=RUN
    python main.py --config=configs/coatnet_3.py:imagenet21k_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import create_linear_probe, drop, finetune, set_randaugment

# Table 5's model for JFT.
_STRIDED_DEPTHWISE = {'model.name': 'coatnet_3_strided_depthwise'}

PHASES = {
  'imagenet1k': recipes.IMAGENET1K | drop(0.7),
  **finetune(
    'imagenet1k',
    recipes.IMAGENET1K_FINETUNE | drop(0.7) | set_randaugment(2, 20.0),
  ),
  'imagenet21k': recipes.IMAGENET21K | drop(0.5),
  **finetune('imagenet21k', recipes.IMAGENET21K_FINETUNE | drop(0.5)),
  **create_linear_probe('imagenet21k'),
  'jft300m': recipes.JFT300M | drop(0.0) | _STRIDED_DEPTHWISE,
  **finetune(
    'jft300m',
    recipes.JFT_FINETUNE | drop(0.1) | _STRIDED_DEPTHWISE,
    sizes=(384, 512),
  ),
}


def get_config(phase='imagenet1k'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_3', PHASES, phase)

r"""CoAtNet-2: the phases of the paper's Table 10, timm's, a linear probe.

The paper reports (Table 4), at 224, 384 and 512 px, 84.1, 85.7 and 85.9 % with
ImageNet-1k, and 87.1 % at 384 and 87.3 % at 512 after ImageNet-21k; this
project has not run them. `docs/recipes.md` has all phases, `configs/recipes.py`
their numbers.

    python main.py --config=configs/coatnet_2.py:imagenet21k --workdir=RUN
    python main.py --config=configs/coatnet_2.py:imagenet21k_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import create_linear_probe, drop, finetune

PHASES = {
  'imagenet1k': recipes.IMAGENET1K | drop(0.5),
  **finetune('imagenet1k', recipes.IMAGENET1K_FINETUNE | drop(0.5)),
  'imagenet21k': recipes.IMAGENET21K | drop(0.3),
  **finetune('imagenet21k', recipes.IMAGENET21K_FINETUNE | drop(0.3)),
  **create_linear_probe('imagenet21k'),
  # 84.6 % with timm's weights. Its stochastic depth is ours: the paper's.
  'timm': recipes.TIMM | drop(0.5) | {'model.name': 'coatnet_rmlp_2_rw_224'},
}


def get_config(phase='imagenet1k'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_2', PHASES, phase)

r"""CoAtNet-1: the phases of the paper's Table 10, and one of timm's.

The paper reports (Table 4, ImageNet-1k) 83.3 % at 224 px and 85.1 % at 384;
this project has not run them. `docs/recipes.md` has all phases,
`configs/recipes.py` their numbers.

    python main.py --config=configs/coatnet_1.py --workdir=RUN
    python main.py --config=configs/coatnet_1.py:imagenet1k_finetune_384 \
        --config.init_from=RUN --workdir=RUN_384
"""

from configs import recipes
from configs.recipes import drop, finetune

PHASES = {
  'imagenet1k': recipes.IMAGENET1K | drop(0.3),
  **finetune('imagenet1k', recipes.IMAGENET1K_FINETUNE | drop(0.3)),
  # 83.6 % with timm's weights. Its stochastic depth is ours: the paper's.
  'timm': recipes.TIMM | drop(0.3) | {'model.name': 'coatnet_1_rw_224'},
}


def get_config(phase='imagenet1k'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_1', PHASES, phase)

r"""CoAtNet-4: the phases of the paper's Table 10, and two of ours.

The paper reports, at 384 and 512 px, 87.9 and 88.1 % after ImageNet-21k, 88.3
and 88.4 % with RandAugment there (PT-RA), 88.4 and 88.56 % with 150 epochs of
it (PT-RA-E150, Table 14); 89.11 % at 512 after JFT-300M (Table 5). This project
has not run them. `docs/recipes.md` has all phases, `configs/recipes.py` their
numbers.

    python main.py --config=configs/coatnet_4.py:imagenet21k_pt_ra_e150 \
        --workdir=RUN
    python main.py \
        --config=configs/coatnet_4.py:imagenet21k_pt_ra_e150_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import recipes
from configs.recipes import create_linear_probe, drop, finetune, set_randaugment

# Table 10's variants "PT-RA": RandAugment in both phases.
_PT_RA = recipes.IMAGENET21K | drop(0.7) | set_randaugment(2, 5.0)
_PT_RA_FINETUNE = (
  recipes.IMAGENET21K_FINETUNE | drop(0.7) | set_randaugment(2, 5.0)
)

PHASES = {
  'imagenet21k': recipes.IMAGENET21K | drop(0.7),
  **finetune('imagenet21k', recipes.IMAGENET21K_FINETUNE | drop(0.7)),
  **create_linear_probe('imagenet21k'),
  'imagenet21k_pt_ra': _PT_RA,
  **finetune('imagenet21k_pt_ra', _PT_RA_FINETUNE),
  'imagenet21k_pt_ra_e150': _PT_RA | {'training.num_epochs': 150.0},
  **finetune('imagenet21k_pt_ra_e150', _PT_RA_FINETUNE),
  'jft300m': recipes.JFT300M_LARGE | drop(0.1),
  **finetune('jft300m', recipes.JFT_FINETUNE | drop(0.3), sizes=(512,)),
  # Ours: CoAtNet-3's.
  'imagenet1k': recipes.IMAGENET1K | drop(0.7),
}


def get_config(phase='imagenet21k'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_4', PHASES, phase)

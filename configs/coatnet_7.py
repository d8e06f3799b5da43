r"""CoAtNet-7: phases of ours, of which the paper says little.

The paper reports 90.88 % at 512 px after JFT-3B (Table 5) and no settings. The
recipe is CoAtNet-5's; `docs/recipes.md` says where the epochs are from. The
data are Google's own: name yours, prepared as TFDS data sets are.

    python main.py --config=configs/coatnet_7.py:jft3b \
        --config.data.name=NAME --workdir=RUN
    python main.py --config=configs/coatnet_7.py:jft3b_finetune_512 \
        --config.init_from=RUN --workdir=RUN_512
"""

from configs import coatnet_6, recipes

# CoAtNet-6's, all ours, but for the epochs.
PHASES = {
  **coatnet_6.PHASES,
  'jft3b': coatnet_6.PHASES['jft3b'] | {'training.num_epochs': 5.0},
}


def get_config(phase='jft3b'):
  """Returns the config of a phase."""
  return recipes.create_config('coatnet_7', PHASES, phase)

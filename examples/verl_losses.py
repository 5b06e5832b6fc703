"""SSPO in verl. Start training with VERL_USE_EXTERNAL_MODULES=verl_losses, this folder in PYTHONPATH, and

actor_rollout_ref.actor.policy_loss.loss_mode=sspo/sspo
"""

from sspo.backends.verl import register

register(
    {"sspo": {"objective": "sspo", "params": {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}}}
)

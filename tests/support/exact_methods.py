"""The methods of the exact study as a configuration writes them."""

from sspo.config.study import ExactStudyConfig


def method(objective: str, normalize_std: bool = True, **params) -> dict:
    return {"objective": objective, "params": params, "normalize_std": normalize_std}


TAUS = {"tau_pos": 1.0, "tau_neg": 1.05}


METHODS = {
    "grpo": method("grpo", clip_low=0.2, clip_high=0.2),
    "dr_grpo": method("dr_grpo", False, clip_low=0.2, clip_high=0.2, max_response_tokens=4),
    "dapo": method("dapo", clip_low=0.2, clip_high=0.28),
    "cispo": method("cispo", clip_high=0.28),
    "gspo": method("gspo", clip_low=0.1, clip_high=0.1),
    "gmpo": method("gmpo", clip=0.4),
    "sapo": method("sapo", **TAUS),
    "sspo": method("sspo", gate="sigmoid", **TAUS),
    "sspo_arctan": method("sspo", gate="log_arctan", **TAUS),
    "sspo_pessimistic": method("sspo", gate="log_tanh", pessimistic=True, **TAUS),
}


NO_CLIP = method("sapo", gate="log_identity", **TAUS)


CONFIG = ExactStudyConfig(
    vocabulary=3,
    max_tokens=3,
    prompts=2,
    logit_scale=1.0,
    draws=2,
    seed=0,
    drifts=(0.0, 0.4),
    features=6,
    group_size=4,
    updates=8,
    updates_per_rollout=(1, 4),
    learning_rates=(0.1,),
    pushes=20,
    push_size=0.1,
    methods={name: METHODS[name] for name in ("grpo", "sspo")},
)

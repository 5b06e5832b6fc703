"""SSPO in a training loop of your own, which needs PyTorch alone: two answers, the first one right."""

import torch

from sspo.objectives import LOSSES
from sspo.objectives.advantages import group_advantages

table = torch.zeros(4, requires_grad=True)  # the policy: logits of four tokens, wherever they stand
optimizer = torch.optim.SGD([table], lr=1.0)
tokens, mask = torch.tensor([[1, 2, 0], [3, 1, 1]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
advantages = group_advantages(torch.tensor([[1.0, 0.0]])).flatten()
old_logprobs = table.log_softmax(-1)[tokens].detach()
for update in range(4):  # several updates per rollout: from the second one on, ratios differ from 1
    logprobs = table.log_softmax(-1)[tokens]
    loss, stats = LOSSES["sspo"](
        logprobs, old_logprobs, advantages, mask, gate="sigmoid", tau_pos=1.0, tau_neg=1.0
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"update {update}: weights {[round(w, 3) for w in stats['sequence_weight'].tolist()]}")
print("probabilities of the four tokens:", [round(p, 3) for p in table.softmax(-1).tolist()])

"""Arguments of runs that are killed."""

from __future__ import annotations

BUSY = ["explainer=rise", "explainer.n_masks=800", "data.batch_size=1", "callbacks=[attribution,faithfulness,tables]"]


GIVEN = [
    "metric=[deletion,sparseness]",
    "++metric.deletion.n_steps=4",
    "model=cifar_cnn",
    "model.weights=random",
    "trainer=cpu",
    "probe_batch_size=16",
    "logger=[]",
]

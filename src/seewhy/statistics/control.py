"""Which explainers beat the control that knows nothing."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from seewhy.statistics.pairs import leaning
from seewhy.statistics.significance import ALPHA, holm, wilcoxon

COLUMNS = ("explainer", "p", "beats")


def against_control(values: pd.DataFrame, better: Literal["higher", "lower"], control: str) -> pd.DataFrame:
    """One row per column of `values` [images, explainers]: does it beat the column `control` on the same images?

    `p` is Wilcoxon's two-sided p with Holm's correction over the explainers that are compared with the control. `beats` is
    yes (p < 0.05 and on the better side), no, untested (less than six images with both values) or control.
    """
    others = [name for name in sorted(values.columns) if name != control]
    gaps = [(values[name] - values[control]).dropna().to_numpy() for name in others]
    corrected = holm(np.array([wilcoxon(gap) for gap in gaps]))
    rows: list[dict[str, object]] = [{"explainer": control, "p": np.nan, "beats": "control"}]
    for name, gap, p in zip(others, gaps, corrected, strict=True):
        ahead = leaning(gap) > 0 if better == "higher" else leaning(gap) < 0
        verdict = "untested" if np.isnan(p) else "yes" if p < ALPHA and ahead else "no"
        rows.append({"explainer": name, "p": p, "beats": verdict})
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("explainer", ignore_index=True)

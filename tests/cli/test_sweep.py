"""The table at the end of a sweep."""

from rich.console import Console

from seewhy.cli.sweep import build_summary_table, find_varied_overrides

RECORDS = [
    {"task": "explain", "status": "completed", "overrides": ["explainer=saliency", "data.root=[a,b]", "seed=1"]},
    {
        "task": "explain",
        "status": "refused",
        "overrides": ["explainer=lrp", "data.root=[a,b]", "seed=2"],
        "reason": "no",
    },
]
for record in RECORDS:
    record |= {"seconds": 1.25, "passes_per_image": {"forward": 1.0, "backward": 1.0}, "images_explained": 3}


def test_only_what_differs_names_a_job() -> None:
    assert find_varied_overrides(RECORDS) == ["explainer=saliency seed=1", "explainer=lrp seed=2"]
    assert find_varied_overrides(RECORDS[:1]) == ["explainer=saliency data.root=[a,b] seed=1"]


def test_brackets_in_overrides_are_shown() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(build_summary_table(RECORDS[:1]))
    console.file.close()
    assert "data.root=[a,b]" in console.export_text()

import subprocess
import sys

MODULES = [
    "sbr_tasks.gru4rec.scorer",
    "sbr_tasks.gru4rec.training",
    "sbr_tasks.gru4rec.weights",
    "sbr_tasks.evaluation.baselines",
    "sbr_tasks.evaluation.ranking",
]


def test_scoring_and_evaluation_never_import_tensorflow() -> None:
    code = f"import sys, {', '.join(MODULES)}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evaluation_does_not_know_gru4rec() -> None:
    code = (
        "import sys, sbr_tasks.evaluation.ranking, sbr_tasks.evaluation.baselines; sys.exit('sbr_tasks.gru4rec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

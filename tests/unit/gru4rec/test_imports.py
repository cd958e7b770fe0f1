import subprocess
import sys

SCRIPT = """
import sys
import sbr_tasks.evaluation.baselines, sbr_tasks.evaluation.ranking
assert not any(name.startswith("sbr_tasks.gru4rec") for name in sys.modules), "evaluation must not know GRU4Rec"
import sbr_tasks.gru4rec.scorer, sbr_tasks.gru4rec.training, sbr_tasks.gru4rec.weights
assert not {"tensorflow", "keras"} & sys.modules.keys(), "only training itself may load TensorFlow"
"""


def test_scoring_and_evaluation_never_import_tensorflow() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

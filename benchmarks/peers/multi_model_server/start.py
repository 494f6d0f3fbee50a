"""multi-model-server: lays out the model as SageMaker does and starts AWS's inference toolkit.

Usage: start.py DIRECTORY, which is also SAGEMAKER_BASE_DIR
"""

import shutil
import sys
from pathlib import Path

base_dir = Path(sys.argv[1])
code_dir = base_dir / "model" / "code"
code_dir.mkdir(parents=True)
shutil.copy(Path(__file__).with_name("inference.py"), code_dir)

from sagemaker_inference import model_server  # noqa: E402 -- looks at the directory when imported

# By default it is in /etc.
model_server.MMS_CONFIG_FILE = str(base_dir / "mms.properties")
model_server.start_model_server()

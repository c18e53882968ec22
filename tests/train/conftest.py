import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # line_method.py, which subprocesses run by its path

"""Where the repository's parts are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
TESTS = ROOT / "tests"
PROFILES = ROOT / "config"
SCRIPTS = ROOT / "workflow" / "scripts"
CLAIMS_PLAN = ROOT / "workflow" / "claims.yaml"

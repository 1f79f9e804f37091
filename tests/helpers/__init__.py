"""What tests share: small models, made-up data and tables, runs of the workflow."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the project

"""What backs the figures in the documentation."""

from dataclasses import fields
from typing import Any

from api.config import Config

# Settings with which nobody asks too often.
UNLIMITED: dict[str, Any] = {
    setting.name: "1000000/second" for setting in fields(Config) if setting.name.startswith("RATE_LIMIT_")
}
